"""Imagery with its labels, ready for patches: stores, their making and splitting, and files used in place."""
