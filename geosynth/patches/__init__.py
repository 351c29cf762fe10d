"""Georeferenced patches for training: the only room that knows TorchGeo."""
