"""Make the QGIS plugin's zip, for "Install from ZIP" in QGIS; draws its icon, and takes its version from geosynth.

python qgis/package.py [FOLDER]     # dist/geosynth_qgis.zip
"""

import re
import sys
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
PLUGIN = Path(__file__).parent / "geosynth_qgis"
SIDE = 64
_COLOURS = ("#267300", "#A3FF73", "#0070C0", "#9C9C9C")  # tree canopy, low vegetation, water, impervious


def draw_icon():
    """Draw land cover above, and the image painted from it below, on a square map."""
    large = Image.new("RGBA", (4 * SIDE, 4 * SIDE))
    pen = ImageDraw.Draw(large)
    pen.rounded_rectangle((4, 4, 251, 251), 36, _COLOURS[1])
    pen.polygon([(4, 40), (4, 128), (150, 128), (96, 4), (40, 4)], _COLOURS[0])
    pen.polygon([(170, 4), (215, 4), (251, 40), (251, 128), (205, 128)], _COLOURS[2])
    pen.line([(112, 4), (160, 128)], _COLOURS[3], 18)
    for row in range(8):  # the same below as coarse texture
        for column in range(16):
            above = large.getpixel((min(247, 16 * column + 8), 128 - 16 * row - 8))
            shade = 0.62 + 0.38 * ((row * 7 + column * 13 + row * column * 5) % 8) / 8
            corner = (16 * column, 128 + 16 * row)
            fill = (*(round(shade * channel) for channel in above[:3]), above[3])
            pen.rectangle((*corner, corner[0] + 15, corner[1] + 15), fill)
    pen.line([(4, 128), (251, 128)], "#ffffff", 8)
    return large.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def package(folder):
    """Write FOLDER/geosynth_qgis.zip; returns its path."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "geosynth" / "version.py").read_text(encoding="utf-8"))[1]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "geosynth_qgis.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(PLUGIN.iterdir()):
            if file.name == "metadata.txt":
                text = re.sub(r"(?m)^version=.*$", f"version={version}", file.read_text(encoding="utf-8"))
                archive.writestr("geosynth_qgis/metadata.txt", text)
            elif file.suffix in (".py", ".png"):
                archive.write(file, f"geosynth_qgis/{file.name}")
        archive.write(ROOT / "LICENSE", "geosynth_qgis/LICENSE")
    return path


if __name__ == "__main__":
    draw_icon().save(PLUGIN / "icon.png", optimize=True)
    print(package(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"))
