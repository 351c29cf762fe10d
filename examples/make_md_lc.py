"""Draw md_lc.tif, a small invented land-cover raster in the style of the Chesapeake 7-class product of Maryland.

    python examples/make_md_lc.py [--out examples/md_lc.tif] [--seed 7]

Nothing in it is copied from a real map: the roads, the creek and the woods follow the control points below, and smooth
noise from a seeded generator gives every natural edge the ragged outline of real 1 m land cover.
Coordinates are pixels (which are metres here): x to the east, y to the south, from the north-west corner.
"""

import argparse
import math
import os
from collections.abc import Iterable, Sequence
from itertools import product, starmap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling
from rasterio.features import rasterize, sieve
from rasterio.transform import from_origin

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Point = tuple[float, float]
Box = tuple[float, float, float, float, float]  # x, y of the centre, length, breadth, angle in degrees

WIDTH, HEIGHT = 1024, 960
WEST, NORTH = 384517, 4310393  # Kent Island; not on a multiple of 32 m, so that no tile grid fits it by chance
WATER, TREES, LOW, BARREN, BUILT, ROAD, NODATA = 1, 2, 3, 4, 5, 6, 15
CLASSES = {
    WATER: ("water", (0, 112, 192, 255)),
    TREES: ("tree canopy and shrub", (38, 115, 0, 255)),
    LOW: ("low vegetation", (163, 255, 115, 255)),
    BARREN: ("barren", (255, 170, 0, 255)),
    BUILT: ("impervious (other)", (156, 156, 156, 255)),
    ROAD: ("impervious (roads)", (0, 0, 0, 255)),
    NODATA: ("no data", (0, 0, 0, 0)),
}
# fmt: off
# Centre lines, as control points of smooth curves.
CREEK = [(468, -40), (452, 45), (492, 105), (440, 165), (362, 182), (378, 250), (318, 292), (296, 350), (338, 420),
         (282, 478), (205, 452), (152, 515), (196, 590), (262, 640), (196, 712), (104, 702), (66, 780), (128, 862),
         (70, 935), (20, 1000)]
BRANCH = [(556, 560), (500, 596), (440, 640), (392, 612), (330, 668), (250, 660)]
COUNTY_ROADS = [[(-40, 352), (120, 326), (270, 345), (400, 395), (540, 430), (700, 428), (850, 396), (1064, 384)],
                [(598, 434), (604, 520), (640, 620), (650, 750), (612, 870), (590, 1000)]]
STREETS = [[(647, 658), (720, 640), (800, 655), (868, 626), (902, 556), (890, 470), (874, 394)],
           [(800, 655), (806, 722), (850, 780), (930, 800)], [(722, 640), (712, 715), (738, 790), (722, 862)],
           [(792, 654), (776, 590), (738, 548), (682, 536)], [(885, 604), (950, 612), (986, 668), (980, 716)]]
WOODS: list[Box] = [
    (150, 130, 380, 270, -8), (90, 420, 190, 90, 5), (640, 60, 190, 150, -12), (470, 860, 150, 190, 10),
    (860, 925, 420, 130, 4), (1000, 520, 90, 190, 8), (40, 590, 150, 150, 0), (690, 240, 130, 70, -10),
    (775, 490, 120, 55, -10)]
# A farmstead with three long poultry houses, as on much of Delmarva; and a store with its parking lot.
FARM: list[Box] = [(826, 138, 13, 128, -9), (852, 134, 13, 128, -9), (878, 130, 13, 128, -9), (862, 238, 24, 14, -9),
                   (896, 222, 15, 15, -9), (912, 262, 15, 11, -9), (918, 267, 8, 12, -9)]
YARDS: list[Box] = [(862, 211, 82, 7, -9), (879, 232, 18, 36, -9), (887, 320, 4, 152, 5), (902, 258, 24, 4, -9)]
STORE: Box = (684, 347, 86, 36, 0)
PARKING: list[Box] = [(684, 388, 128, 40, 0), (684, 325, 110, 8, 0), (633, 350, 8, 58, 0), (735, 350, 8, 58, 0),
                      (650, 416, 8, 26, 0), (728, 416, 8, 26, 0)]
ISLANDS: list[Box] = [(640 + 22 * i, 388, 4, 28, 0) for i in range(5)]
# fmt: on
Y, X = (np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5).astype(np.float32)  # pixel centres


def noise(rng: np.random.Generator, scales: Sequence[int], power: float = 0.7) -> Floats:
    """Smooth noise with mean 0 and deviation 1, from random lattices of the given spacings, coarse ones strongest."""
    total = np.zeros((HEIGHT, WIDTH))
    for scale in scales:
        lattice = rng.standard_normal((HEIGHT // scale + 2, WIDTH // scale + 2))
        for axis, size in enumerate((HEIGHT, WIDTH)):
            cell, part = np.divmod(np.arange(size) / scale, 1)
            ease = np.expand_dims(part * part * (3 - 2 * part), 1 - axis)
            low = np.take(lattice, cell.astype(int), axis)
            lattice = low + (np.take(lattice, cell.astype(int) + 1, axis) - low) * ease
        total += scale**power * lattice
    return np.asarray((total - total.mean()) / total.std(), np.float32)


def curve(points: Sequence[Point], steps: int = 12) -> npt.NDArray[np.float64]:
    """A Catmull-Rom curve through the points."""
    p = np.array([points[0], *points, points[-1]], float)
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    t = np.arange(steps)[:, None] / steps
    cubic = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    return np.vstack([cubic.reshape(-1, 2) / 2, p[-1:]])


def distance(points: Sequence[Point], half: Sequence[float] = (0, 0), reach: float = 90) -> Floats:
    """Distance of every pixel from a curve, capped at `reach`, less the curve's half width, which may grow along it."""
    line, out = curve(points), np.full((HEIGHT, WIDTH), reach, np.float32)
    halves = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(half)), half)
    for (ax, ay), (bx, by), w in zip(line, line[1:], halves, strict=False):
        margin = reach + w
        rows = slice(max(0, int(min(ay, by) - margin)), max(0, int(max(ay, by) + margin)))
        cols = slice(max(0, int(min(ax, bx) - margin)), max(0, int(max(ax, bx) + margin)))
        x, y, dx, dy = X[rows, cols] - ax, Y[rows, cols] - ay, bx - ax, by - ay
        t = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
        out[rows, cols] = np.minimum(out[rows, cols], np.hypot(x - t * dx, y - t * dy) - w)
    return out


def inside(x: float, y: float, length: float, breadth: float, degrees: float) -> Floats:
    """Depth of every pixel inside a rotated rectangle, in metres; negative outside."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u, v = (X - x) * c + (Y - y) * s, (Y - y) * c - (X - x) * s
    return np.asarray(np.minimum(length / 2 - np.abs(u), breadth / 2 - np.abs(v)), np.float32)


def corners(x: float, y: float, length: float, breadth: float, degrees: float) -> list[Point]:
    """The outline of a rotated rectangle: a house, a barn, a parking lot."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    signs = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
    return [(x + i * length * c - j * breadth * s, y + i * length * s + j * breadth * c) for i, j in signs]


def crown(rng: np.random.Generator, x: float, y: float, radius: float) -> list[Point]:
    """The outline of a tree crown seen from above, or of another lobed blob."""
    turns = enumerate(radius * rng.uniform(0.65, 1.25, 9))
    return [(x + r * math.cos(i * math.tau / 9), y + r * math.sin(i * math.tau / 9)) for i, r in turns]


def burn(rings: Iterable[list[Point]]) -> Mask:
    """The pixels with centres inside the outlines."""
    shapes = [{"type": "Polygon", "coordinates": [[*ring, ring[0]]]} for ring in rings]
    covered = rasterize(shapes, out_shape=(HEIGHT, WIDTH), dtype="uint8") if shapes else np.zeros((HEIGHT, WIDTH))
    return np.asarray(covered, bool)


def waters(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Signed distance to the edge of a tidal creek that widens downstream, and to that of any water, with ponds."""
    rough = noise(rng, (40, 16, 8, 4, 3), 0.5) * np.clip(
        1.3 + (Y - 300) / 250, 1.1, 3
    )  # the broad part is the most ragged
    creek = np.minimum(distance(CREEK, (2.5, 4, 7, 12, 20, 30)), distance(BRANCH, (1.8, 3, 5)) - 0.5 * rough) + rough
    ponds = np.minimum(np.hypot((X - 782) / 1.5, Y - 262) - 19, np.hypot(X - 664, (Y - 580) / 1.4) - 11)
    return creek, np.minimum(creek, ponds + 1.5 * rough)


def parcels(rng: np.random.Generator, u: float, v: float, length: float, breadth: float) -> list[tuple[float, ...]]:
    """Split a rectangle into farm fields, the longer side first, until each has about six hectares or less."""
    if length * breadth < rng.uniform(30_000, 75_000):
        return [(u, v, length, breadth)]
    cut = rng.uniform(0.36, 0.64)
    if length >= breadth:
        one = parcels(rng, u, v, length * cut, breadth)
        return one + parcels(rng, u + length * cut, v, length * (1 - cut), breadth)
    return parcels(rng, u, v, length, breadth * cut) + parcels(rng, u, v + breadth * cut, length, breadth * (1 - cut))


def farmland(rng: np.random.Generator, turn: float = -9) -> tuple[Mask, Mask]:
    """The harvested (bare) fields, and the hedgerows along some of the field edges, with gaps."""
    bare, hedge = np.zeros((HEIGHT, WIDTH), bool), np.full((HEIGHT, WIDTH), -99, np.float32)
    ragged, patchy = noise(rng, (20, 8, 4)), noise(rng, (90, 30, 12))
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    for u, v, length, breadth in parcels(rng, -750, -700, 1500, 1400):
        mid_u, mid_v = u + length / 2, v + breadth / 2
        x, y = 512 + mid_u * c - mid_v * s, 480 + mid_u * s + mid_v * c
        if rng.random() < 0.3:  # a grass margin around the field, and patches of weeds
            bare |= (inside(x, y, length, breadth, turn) + 1.5 * ragged > 7) & (patchy < 1.6)
        for along, across, size, angle in ((0, -breadth / 2, length, turn), (-length / 2, 0, breadth, turn + 90)):
            if rng.random() < 0.6:
                at = (x + along * c - across * s, y + along * s + across * c)
                hedge = np.maximum(hedge, inside(*at, size, rng.uniform(6, 13), angle))
    return bare, hedge + 3 * ragged - np.where(patchy > 0.8, 9, 0) > 0


def houses_along(
    rng: np.random.Generator, taken: Mask, street: Sequence[Point], gap: float, setback: float, vacant: float
) -> tuple[list[Box], list[Box], list[Point]]:
    """Houses on both sides of a street where there is room (noted in `taken`), driveways, and the vacant lots."""
    line, houses, drives, empty = curve(street), list[Box](), list[Box](), list[Point]()
    run = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    for start, side in product(np.arange(gap * 0.8, run[-1], gap), (-1, 1)):
        at = start + (0.2 * side + rng.uniform(-0.15, 0.15)) * gap + np.array([-2, 2])
        (x, x2), (y, y2) = np.interp(at, run, line[:, 0]), np.interp(at, run, line[:, 1])
        heading = math.atan2(y2 - y, x2 - x)
        ax, ay, nx, ny = math.cos(heading), math.sin(heading), -math.sin(heading) * side, math.cos(heading) * side
        length, depth, angle = rng.uniform(12, 16), rng.uniform(10, 12), math.degrees(heading) + rng.uniform(-5, 5)
        far = setback * rng.uniform(1, 1.3) + depth / 2
        house = (float(x + nx * far), float(y + ny * far), length, depth, angle)
        if (burn([corners(*house[:2], length + 7, depth + 7, angle)]) & taken).any():
            continue
        if rng.random() < vacant:
            empty.append(house[:2])
            taken |= burn([corners(*house)])
            continue
        wing, front = float(rng.choice((-1, 1))) * (length / 2 - 3), far - rng.uniform(1, 5)
        gx, gy = x + ax * wing + nx * front, y + ay * wing + ny * front  # a garage before one end of the house
        houses += [house, (gx, gy, 6.5, 8, angle)]
        drives.append((gx - nx * front / 2, gy - ny * front / 2, rng.uniform(3.2, 5.5), front, math.degrees(heading)))
        taken |= burn(starmap(corners, houses[-2:]))
    return houses, drives, empty


def lone_trees(rng: np.random.Generator, yards: Mask) -> list[list[Point]]:
    """Crowns of 5 to 12 m: many in yards, in groups, and a few alone in the fields."""
    spots = rng.uniform((0, 0), (WIDTH, HEIGHT), (14_000, 2))
    likely = np.where(yards, np.clip(0.07 + 0.26 * noise(rng, (60, 22)), 0.03, 0.95), 0.003)
    chosen = spots[rng.random(len(spots)) < likely[spots[:, 1].astype(int), spots[:, 0].astype(int)]]
    return [crown(rng, x, y, rng.uniform(2.6, 6)) for x, y in chosen]


def draw(seed: int) -> npt.NDArray[np.uint8]:
    """The whole scene: ground and water first, then what people built, then the canopy above both."""
    rng = np.random.default_rng(seed)
    (creek, shore), (bare, hedge) = waters(rng), farmland(rng)
    lanes = np.min([distance(s) for s in STREETS], axis=0)
    bulbs = np.min([np.hypot(X - s[-1][0], Y - s[-1][1]) for s in STREETS[1:]], axis=0) - 12  # cul-de-sacs
    paved = np.min([*(distance(r) - 3.7 for r in COUNTY_ROADS), lanes - 3.6, bulbs], axis=0)

    trade, stead = inside(684, 370, 190, 140, 0) > 0, inside(878, 195, 150, 300, -9) > 0
    settled, taken = (lanes < 85) | trade | stead, (shore < 14) | (paved < 4) | trade | stead
    plans = [(s, 27.0, 16.0, 0.06) for s in STREETS] + [(r, 58.0, 26.0, 0.45) for r in COUNTY_ROADS]
    built = [houses_along(rng, taken, *plan) for plan in plans]
    homes, drives = [box for part in built for box in part[0]], [box for part in built for box in part[1]]
    lots = burn(corners(x, y, 46, 64, angle) for x, y, _, _, angle in homes)
    lawns = (
        burn(crown(rng, x, y, 24) for x, y, *_ in homes + FARM[3:])
        | (lanes < 14)
        | trade
        | burn(starmap(corners, YARDS))
    )
    hard = burn(starmap(corners, [*drives, *PARKING, *YARDS]))

    ragged, patchy, tidal = noise(rng, (48, 20, 9, 5, 3), 0.4), noise(rng, (110, 40, 14)), noise(rng, (70, 30, 10))
    warp = (np.clip(Y + 5 * ragged, 0, HEIGHT - 1).astype(int), np.clip(X + 5 * ragged[::-1], 0, WIDTH - 1).astype(int))
    lawns = lawns[warp]  # woods also end in a ragged line at gardens
    woods = np.max([inside(*w) for w in WOODS], axis=0) + 9 * ragged + 12 * patchy
    marsh = creek < (6 + 13 * tidal + 3 * ragged) * np.clip(
        (Y - 440) / 200, 0, 1
    )  # the tidal reach has grassy banks in places
    riparian = np.where(marsh, -9, 30 + 14 * patchy + 7 * ragged - creek)
    canopy = ((np.maximum(woods, riparian) > 0) & (patchy < 2.3) | hedge & ~settled) & ~lawns
    canopy &= paved > np.clip(4 + 3 * ragged, -2, 9)  # a mown verge, which crowns reach across here and there
    canopy |= burn(lone_trees(rng, ((lanes < 80) | lawns) & (paved > 2) & ~hard))

    works = burn(crown(rng, x, y, 13) for part in built[: len(STREETS)] for x, y in part[2])  # lots being built on
    cover = np.full((HEIGHT, WIDTH), LOW, np.uint8)
    fields = (bare & ~settled & ~lots & ~canopy & (paved > 6) & (creek > 32)).astype(np.uint8)
    cover[sieve(fields, 1500, connectivity=4) & fields > 0] = BARREN  # no tiny pieces of ploughed fields
    cover[works] = BARREN
    cover[shore < 0] = WATER
    cover[hard] = BUILT
    cover[burn(starmap(corners, ISLANDS))] = LOW
    cover[paved < 0] = ROAD
    cover[canopy & (shore > ragged - 1)] = TREES
    cover[burn(starmap(corners, [*homes, *FARM, STORE]))] = BUILT
    cover = sieve(cover, 6, connectivity=4)  # the real product was mapped by objects, so single pixels are rare
    cover[X > WIDTH - 95 * (1 - Y / 520)] = NODATA  # the slanted edge of the imagery
    return np.asarray(cover, np.uint8)


def write(path: Path, cover: npt.NDArray[np.uint8]) -> None:
    """Write the GeoTIFF under another name first, so that there is never a half-written file at `path`."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.tif")
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 1, "dtype": "uint8", "nodata": NODATA}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 9}
    place = {"crs": "EPSG:26918", "transform": from_origin(WEST, NORTH, 1, 1)}
    try:
        with rasterio.open(part, "w", **profile, **layout, **place, photometric="palette") as file:
            file.write_colormap(1, {code: colour for code, (_, colour) in CLASSES.items()})
            file.write(cover, 1)
            file.set_band_description(1, "land cover")
            file.update_tags(1, **{f"class_{code}": name for code, (name, _) in CLASSES.items()})
            file.update_tags(TITLE="Synthetic Maryland-like land cover, 1 m, in the Chesapeake 7-class legend")
            file.build_overviews([2, 4], Resampling.mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def main() -> None:
    """Parse arguments, draw and write."""
    parser = argparse.ArgumentParser(description="Draw a small made-up Maryland land-cover raster.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("md_lc.tif"))
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    write(args.out, draw(args.seed))


if __name__ == "__main__":
    main()
