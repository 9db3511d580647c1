# Sourced: sets ROS_SETUP to the setup.bash of the ROS 2 to build against, empty for the wheels.

_find_ros() {
  local distro root=${SAM_PERCEPTION_ROS_ROOT:-/opt/ros}
  [ "${SAM_PERCEPTION_ROS:-}" != wheels ] || return 0
  for distro in ${SAM_PERCEPTION_ROS:-${ROS_DISTRO:-}} jazzy humble kilted; do
    if [ -f "$root/$distro/setup.bash" ]; then
      echo "$root/$distro/setup.bash"
      return 0
    fi
  done
}

ROS_SETUP=$(_find_ros)
unset -f _find_ros
