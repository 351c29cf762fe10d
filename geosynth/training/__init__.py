"""Training: the Lightning module and the `train` verb."""
