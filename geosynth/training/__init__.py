"""Training of generators: networks, random draws, losses, the step, and `train`."""
