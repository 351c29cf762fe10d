"""How real synthetic images look: distributions per class, Frechet distance, spectra, seams; `evaluate`."""
