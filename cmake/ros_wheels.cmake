# Included only when setup.py builds against ROS 2 wheels from a Python package index, with
# -DCMAKE_PROJECT_INCLUDE=<this file>; a normal ROS 2 installation never reads it.
#
# Two things in those wheels' exported CMake targets stop a build elsewhere:
# - include directories of the image that the wheels were made in, which do not exist here;
# - numpy's include directory as an interface of the generated Python extension, which CMake
#   refuses when the virtual environment lies inside the source tree.
# Both are dropped from the imported targets of this one build, after every find_package() and
# just before CMake generates. No file of the environment is touched.

function(_ros_wheels_drop_missing_include_directories target)
  get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT directories)
    return()
  endif()
  set(present "")
  foreach(directory IN LISTS directories)
    # Generator expressions are left for CMake to judge.
    if(directory MATCHES "^\\$<" OR EXISTS "${directory}")
      list(APPEND present "${directory}")
    endif()
  endforeach()
  set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${present}")
endfunction()

function(_ros_wheels_mend_targets)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    _ros_wheels_drop_missing_include_directories(${target})
  endforeach()
  if(TARGET ${PROJECT_NAME}__rosidl_generator_py)
    set_property(TARGET ${PROJECT_NAME}__rosidl_generator_py PROPERTY INTERFACE_INCLUDE_DIRECTORIES "")
  endif()
endfunction()

cmake_language(DEFER CALL _ros_wheels_mend_targets)
