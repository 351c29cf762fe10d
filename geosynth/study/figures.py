"""A study's figures as PNG."""

from __future__ import annotations

import io

import pandas as pd
from matplotlib.figure import Figure

from geosynth.study.report import StudyReport
from geosynth.study.tables import X_NAMES, means_of

# Real: blue, synthetic: red.
_COLOURS = ("#1b6ca8", "#5aa9d6", "#d1495b", "#e8994d", "#6a4c93", "#3d7a4f", "#8d8d8d", "#b8860b")


def figures_of(report: StudyReport) -> dict[str, bytes]:
    """PNG files by name; empty for a report without rows. Equal reports give equal bytes.

    They show mIoU against the setting of the sweep, a line for each arm; for "diversity" also the Frechet distance in
    each feature space, and the measured diversity.
    """
    means, x_name = means_of(report), X_NAMES[report.sweep]
    columns = {
        "mIoU": ("miou.png", "mIoU on real test tiles"),
        **{
            f"frechet {space}": (f"frechet_{number}.png", f"Frechet distance\n{space}")
            for number, space in enumerate(report.feature_spaces, start=1)
        },
        "diversity": ("diversity.png", "difference of two realisations, DN"),
    }
    return {
        file: _draw(means, x_name, column, y_name)
        for column, (file, y_name) in columns.items()
        if column in means and len(means)
    }


def _draw(means: pd.DataFrame, x_name: str, column: str, y_name: str) -> bytes:
    """Means as lines, intervals as bars; arms are shifted a little, so that bars do not hide each other."""
    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    arms = means.groupby("arm", sort=False)
    step = (means[x_name].max() - means[x_name].min()) / 100
    for number, (arm, rows) in enumerate(arms):
        points = rows.sort_values(x_name)
        known = [(x, one) for x, one in zip(points[x_name], points[column], strict=True) if one.value is not None]
        shift = (number - (len(arms) - 1) / 2) * step
        axes.errorbar(
            [x + shift for x, _ in known],
            [one.value for _, one in known],
            yerr=[0.0 if one.high is None else one.high - one.value for _, one in known],
            label=f"{arm} (n = {', '.join(map(str, sorted({one.n for _, one in known})))})",
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
