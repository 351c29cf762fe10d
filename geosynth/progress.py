"""Progress: what long work is given, to tell how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Told parts done and parts in all."""
StageProgress = Callable[[str, int, int], None]
"""Told what is being done, as "painting"; of that, parts done and parts in all."""
StepProgress = Callable[[int, int, float], None]
"""Told steps done, steps in all, and the seconds that remain by the estimate."""


def silent(*told: object) -> None:
    """Progress that nobody looks at."""
