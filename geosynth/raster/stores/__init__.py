"""Imagery with its labels, ready for patches: stores, how they are made and split, and data in place."""
