"""The networks, in pure torch: generator, encoder, adversaries, losses, looks, and noise by position."""
