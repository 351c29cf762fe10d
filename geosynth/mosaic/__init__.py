"""From labels of any size to one image: painting windows, joining them, and `generate`."""
