"""What is to be done: settings, their defaults, and the task they make."""
