"""The commands, along the journey of the data.

geosynth is imported inside the functions: `geosynth --help` must not wait for torch.
"""
