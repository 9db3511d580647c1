"""The ROS 2 node: topics in, topics out. The only room that imports rclpy."""
