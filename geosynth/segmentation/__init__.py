"""The downstream model: a segmenter trained on a mixture of real and synthetic tiles, tested on real ones."""
