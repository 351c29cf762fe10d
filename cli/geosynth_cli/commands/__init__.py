"""The commands, along the journey of the data.

geosynth is imported inside the functions, so that `geosynth --help` does not wait for torch.
"""
