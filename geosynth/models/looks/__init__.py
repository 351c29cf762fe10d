"""Looks of classes: how the style in which a pixel is painted comes about.

1. **A style is measured** in an image, for a class around a place (`styles`).
2. **A look is fitted** to an image: styles that were observed there together (`look`), from tiles with labels
   (`labelled`) or from an image alone (`unlabelled`). What the image lacks, classes or bands, is completed by what is
   plausible beside the rest (`prior`, `missing_bands`). `calibration` corrects what a generator does not follow.
3. **A style is drawn** from a look for each class and place of a window, as a function of the seed and of the absolute
   position (`field`). It also depends on the labels around (`surroundings`): a region such as a roof has one style
   (`regions`), and the inside of a wide area is calmer than its edge (`edge_effect`).
4. **A style is painted**: a pixel gets the style of its own class as a code, by which the generator scales and shifts
   its features (`codes`). In training, the styles are those measured in the real image.
"""
