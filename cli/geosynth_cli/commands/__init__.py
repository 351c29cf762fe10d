"""One small file a command. geosynth is imported inside the functions: `geosynth --help` must not wait for torch."""
