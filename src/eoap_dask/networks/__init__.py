"""Neural networks, as modules of PyTorch; it is imported where one is used, and nowhere else."""
