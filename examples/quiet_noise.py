"""Scale the noise in the finest blocks of a model, and write the result as a new model.

    python examples/quiet_noise.py MODEL OUT [--factor 0] [--blocks 2]

Noise strengths are learned fast, and with a discriminator that sees every second pixel they may become too high: the
image then has a grain that real ones do not have. Coarser blocks keep theirs, so that texture still does not repeat.
Choose the factor by `geosynth evaluate` on a fold other than test.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geosynth.checkpoint import load_generator, save_generator
from geosynth.models.generator import SpadeBlock


def quiet(model: Path, out: Path, factor: float, num_blocks: int) -> None:
    """Write `model` to `out` with the noise strengths of its last `num_blocks` blocks multiplied by `factor`."""
    loaded = load_generator(model)
    names = list(loaded.generator.blocks)[-num_blocks:]
    for name in names:
        block = loaded.generator.blocks[name]
        assert isinstance(block, SpadeBlock)
        block.noise_strength.mul_(factor)
    provenance = {**loaded.card.provenance, "noise_scaled": {"factor": factor, "blocks": names}}
    card = loaded.card.model_copy(update={"provenance": provenance})
    save_generator(out, loaded.generator, card, loaded.encoder, looks=loaded.looks)


def main() -> None:
    """Parse arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--factor", type=float, default=0.0, help="0: none is left; 1: as it is")
    parser.add_argument("--blocks", type=int, default=2, help="how many, counted from the finest")
    values = parser.parse_args()
    quiet(values.model, values.out, values.factor, values.blocks)


if __name__ == "__main__":
    main()
