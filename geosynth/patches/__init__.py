"""Georeferenced patches for training: the only room that uses TorchGeo's datasets and samplers."""
