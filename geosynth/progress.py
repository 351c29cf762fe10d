"""Callbacks by which long work reports its progress."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the number of finished parts and of all parts."""
StageProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, such as "painting", and its numbers of finished parts and of all parts."""
StepProgress = Callable[[int, int, float], None]
"""Called with the number of finished steps, of all steps, and the estimated remaining seconds, NaN if unknown.

With a limit of time, all steps are those that it is likely to allow.
"""


def silent(*numbers: object) -> None:
    """A progress callback that does nothing."""
