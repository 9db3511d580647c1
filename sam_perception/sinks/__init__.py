"""Where results go without ROS: bags and reports."""
