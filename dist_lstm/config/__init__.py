"""The config: settings, their defaults, and the task they describe."""
