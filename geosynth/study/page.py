"""report.html of a study: one file, no scripts, nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

from geosynth.study.report import StudyReport
from geosynth.study.tables import Table, header, tables_of

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
