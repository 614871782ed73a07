"""Training: devices, steps, the loop, checkpoints."""
