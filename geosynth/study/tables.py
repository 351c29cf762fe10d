"""A study's numbers as rows of text: for CSV, Markdown and HTML alike."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from geosynth.study.report import StudyReport
from geosynth.study.summary import Summary

X_NAMES = {"replace": "share synthetic", "augment": "real tiles kept", "diversity": "lambda"}


class Table(NamedTuple):
    """A title, column names, and rows of as many cells."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables_of(report: StudyReport) -> list[Table]:
    """What a reader wants to see: means with intervals, paired differences, IoU per class, what is missing."""
    x_name = X_NAMES[report.sweep]
    spaces = sorted({name for row in report.rows for name in row.frechet})
    measured = (*(f"Frechet, {name}" for name in spaces), "diversity, DN") if spaces else ()
    means, classes = [], []
    for row in report.rows:
        start = (row.arm, f"{row.x:g}")
        distances = [_text(row.frechet.get(name)) for name in spaces]
        more = (*distances, _text(row.diversity)) if spaces else ()
        counts = (str(row.real_tiles), str(row.synthetic_tiles), str(row.miou.n))
        means.append((*start, *counts, row.miou.text(), *more))
        classes.append((*start, *("-" if iou is None else f"{iou:.3f}" for iou in row.class_iou.values())))
    found = [
        Table("Means over seeds", ("arm", x_name, "real", "synthetic", "n", "mIoU", *measured), means),
        Table(
            "Differences, mIoU points, paired by seed",
            ("arm", x_name, "minus", f"at {x_name}", "n", "points", "verdict"),
            [
                (
                    entry.arm,
                    f"{entry.x:g}",
                    entry.baseline,
                    f"{entry.baseline_x:g}",
                    str(entry.miou.n),
                    points(entry.miou),
                    verdict(entry.miou),
                )
                for entry in report.differences
            ],
        ),
    ]
    if report.rows:
        found.append(Table("IoU per class, means over seeds", ("arm", x_name, *report.rows[0].class_iou), classes))
    if report.missing:
        rows: list[tuple[str, ...]] = [(entry.cell, entry.reason) for entry in report.missing]
        found.append(Table(f"Missing: {len(rows)} of {len(rows) + len(report.cells)} cells", ("cell", "why"), rows))
    return found


def points(difference: Summary) -> str:
    """A difference of mIoU in hundredths, as "+1.3 [-0.2, +2.8]"."""
    return difference.text(scale=100, sign="+")


def verdict(difference: Summary) -> str:
    """What the interval of a difference says: "better", "worse", or that it cannot be told."""
    if difference.low is None or difference.high is None:
        return "one seed cannot tell"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference can be told"


def to_csv(report: StudyReport) -> str:
    """One line for each arm and setting; empty cells where there is no interval, or nothing was measured."""
    spaces = sorted({name for row in report.rows for name in row.frechet})
    columns = ["mIoU", *(f"frechet {name}" for name in spaces), *(["diversity"] if spaces else [])]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{column}{end}" for column in columns for end in ("", " low", " high")]
    writer.writerow(["arm", X_NAMES[report.sweep], "real tiles", "synthetic tiles", "n", *ends])
    for row in report.rows:
        found: list[Summary | None] = [row.miou, *(row.frechet.get(name) for name in spaces)]
        found += [row.diversity] if spaces else []
        numbers = [
            "" if value is None else f"{value:.6g}"
            for summary in found
            for value in ((None,) * 3 if summary is None else (summary.mean, summary.low, summary.high))
        ]
        writer.writerow([row.arm, f"{row.x:g}", row.real_tiles, row.synthetic_tiles, row.miou.n, *numbers])
    return text.getvalue()


def to_markdown(report: StudyReport) -> str:
    """All tables and notes."""
    parts = [f"# Study: {report.sweep}", *header(report)]
    for table in tables_of(report):
        parts += [f"## {table.title}", _markdown(table.head, table.rows)]
    parts += ["## Notes", "\n".join(f"- {note}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


def header(report: StudyReport) -> list[str]:
    """What was done, one paragraph each."""
    tested = "" if report.test_tiles is None else f"; tested on {report.test_tiles} real tiles"
    return [
        f"Data: {report.data} ({report.digest[:12]}){tested}. Generator: {report.generator}. {report.software}.",
        "Brackets: 95 % t intervals over seeds. mIoU is that of real test tiles.",
    ]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _text(summary: Summary | None) -> str:
    return "-" if summary is None else summary.text()
