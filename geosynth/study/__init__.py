"""The study: what synthetic tiles are worth, as three sweeps over settings and seeds."""
