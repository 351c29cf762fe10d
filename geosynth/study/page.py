"""report.html of a study: one file, no scripts, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from html import escape

from matplotlib.figure import Figure

from geosynth.study.report import X_NAMES, Row, StudyReport, Summary, Table, header, tables_of

# --- A study's figures as PNG.

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


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .6rem 0 1.4rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; margin: 0 1rem 1rem 0; border: 1px solid #ddd; }
"""


def render_page(report: StudyReport, figures: Mapping[str, bytes]) -> str:
    """The whole page.

    Args:
        report: the numbers.
        figures: PNG files by name, from `figures_of`.
    """
    pictures = [
        f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'
        for name, png in figures.items()
    ]
    parts = [
        f"<h1>Study: {escape(report.sweep)}</h1>",
        *(f"<p>{escape(paragraph)}</p>" for paragraph in header(report)),
        *pictures,
        *map(_table, tables_of(report)),
        "<h2>Notes</h2>",
        f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in report.notes)}</ul>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>geosynth study</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f"<h2>{escape(table.title)}</h2><table><tr>{head}</tr>{rows}</table>"
