"""The study: what synthetic tiles are worth, as sweeps over settings and seeds."""
