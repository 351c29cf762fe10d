"""How close synthetic images are to real ones: distributions per class, distances, spectra, seams; `evaluate`."""
