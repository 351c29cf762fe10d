"""The networks, in pure torch: generator, encoder, discriminator, their losses, and the noise they run on."""
