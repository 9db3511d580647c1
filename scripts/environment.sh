# Sourced, from the root of the tree: the environment that `make setup` made, whichever ROS it found.

. scripts/ros.sh
if [ -n "$ROS_SETUP" ]; then
  . "$ROS_SETUP"
  . install/setup.bash
  PATH=$PWD/install/sam_perception/lib/sam_perception:$PATH
fi
PATH=$PWD/.venv/bin:$PATH
export PATH VIRTUAL_ENV=$PWD/.venv

# Set by the ROS wheels in whichever of their environments started this; it would keep them from
# finding their libraries in this one.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
