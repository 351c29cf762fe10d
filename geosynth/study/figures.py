"""A study's figures as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable

from matplotlib.figure import Figure

from geosynth.study.report import Row, StudyReport
from geosynth.study.summary import Summary
from geosynth.study.tables import X_NAMES

_COLOURS = ("#1b6ca8", "#5aa9d6", "#d1495b", "#e8994d")  # real: blue, synthetic: red


def figures_of(report: StudyReport) -> dict[str, bytes]:
    """PNG files by name; none for a report without rows. Equal reports give equal bytes.

    mIoU against the setting of the sweep, a line for each arm; for "diversity" also the Frechet distance in each
    feature space, and the measured diversity.
    """
    if not report.rows:
        return {}
    x_name = X_NAMES[report.sweep]
    found = {"miou.png": _draw(report.rows, lambda row: row.miou, x_name, "mIoU on real test tiles")}
    for number, name in enumerate(sorted({name for row in report.rows for name in row.frechet})):

        def distance(row: Row, name: str = name) -> Summary | None:
            return row.frechet.get(name)

        found[f"frechet_{number + 1}.png"] = _draw(report.rows, distance, x_name, f"Frechet distance\n{name}")
    if any(row.diversity for row in report.rows):
        found["diversity.png"] = _draw(
            report.rows, lambda row: row.diversity, x_name, "difference of two realisations, DN"
        )
    return found


def _draw(rows: tuple[Row, ...], value: Callable[[Row], Summary | None], x_name: str, y_name: str) -> bytes:
    """Means as lines, intervals as bars; arms a little apart, so that bars do not hide each other."""
    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    arms = list(dict.fromkeys(row.arm for row in rows))
    step = (max(row.x for row in rows) - min(row.x for row in rows)) / 100
    for number, arm in enumerate(arms):
        known = sorted((row.x, summary) for row in rows if row.arm == arm and (summary := value(row)) is not None)
        shift = (number - (len(arms) - 1) / 2) * step
        reach = [0.0 if entry.high is None else entry.high - entry.mean for _, entry in known]
        axes.errorbar(
            [x + shift for x, _ in known],
            [entry.mean for _, entry in known],
            yerr=reach,
            label=f"{arm} (n = {', '.join(map(str, sorted({entry.n for _, entry in known})))})",
            color=_COLOURS[number % len(_COLOURS)],
            marker="o",
            markersize=4,
            linewidth=1.3,
            capsize=3,
        )
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
