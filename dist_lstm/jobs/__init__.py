"""Sessions on a Ray cluster, jobs submitted to one, and the training of one model on several nodes."""
