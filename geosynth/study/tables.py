"""A study's numbers for people: tables as CSV, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from geosynth.errors import counted
from geosynth.estimate import Estimate, number
from geosynth.page import render_page
from geosynth.study.report import StudyReport

_NUM_KEYS = 5  # columns before the estimates
X_NAMES = {
    "replace": "share synthetic",
    "augment": "real tiles kept",
    "diversity": "lambda",
    "transfer": "labelled tiles",
}


def means_of(report: StudyReport) -> pd.DataFrame:
    """A row for each arm and setting: what its segmenters were trained on, and means over seeds as `Estimate`s."""
    spaces = report.feature_spaces
    head = ["arm", X_NAMES[report.sweep], "real tiles", "synthetic tiles", "n"]
    rows = []
    for row in report.rows:
        means = [row.miou, *(row.frechet.get(name, Estimate()) for name in spaces)]
        means += [row.diversity or Estimate()] if spaces else []
        means.append(row.accuracy or Estimate())
        means += [row.over_places or Estimate()] if _has_places(report) else []
        rows.append([row.arm, row.x, row.real_tiles, row.synthetic_tiles, row.miou.n, *means])
    measured = [*(f"frechet {name}" for name in spaces), "diversity"] if spaces else []
    last = ["mIoU over places"] if _has_places(report) else []
    return pd.DataFrame(rows, columns=[*head, "mIoU", *measured, "accuracy", *last])


def _has_places(report: StudyReport) -> bool:
    return any(row.over_places for row in report.rows)


def to_csv(report: StudyReport) -> str:
    """One line for each arm and setting; empty cells if there is no interval, or nothing was measured."""
    means = means_of(report)
    keys = list(means.columns[:_NUM_KEYS])
    numbers = {
        f"{name}{end}": pd.Series([getattr(one, part) for one in means[name]], dtype=float)
        for name in means.columns[_NUM_KEYS:]
        for end, part in (("", "value"), (" low", "low"), (" high", "high"))
    }
    table = means[keys].assign(**numbers)
    text: str = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text


def tables_of(report: StudyReport) -> dict[str, pd.DataFrame]:
    """Tables of text for readers, by title.

    Means, paired differences, IoU per class, the choices of the nearer arm, missing cells.
    """
    x_name = X_NAMES[report.sweep]
    names = {"real tiles": "real", "synthetic tiles": "synthetic", "diversity": "diversity, DN"}
    means = means_of(report).rename(columns=lambda name: names.get(name, name.replace("frechet ", "Frechet, ")))
    differences = [
        (one.arm, one.x, one.baseline, one.baseline_x, one.miou.n, points(one.miou), verdict(one.miou))
        + ((points(one.over_places or Estimate()),) if _has_places(report) else ())
        for one in report.differences
    ]
    head = ["arm", x_name, "minus", f"at {x_name}", "n", "points", "verdict"]
    head += ["points over places"] if _has_places(report) else []
    tables = {
        "Means over seeds": means,
        "Differences, mIoU points, paired by seed": pd.DataFrame(differences, columns=head),
    }
    if report.rows:
        classes = [
            {"arm": row.arm, x_name: row.x, **{name: Estimate(value=iou) for name, iou in row.class_iou.items()}}
            for row in report.rows
        ]
        tables["IoU per class, means over seeds"] = pd.DataFrame(classes)
    chosen = [(cell, cell.result.nearness) for cell in report.cells if cell.result.nearness is not None]
    if chosen:
        arms = {"real": "source", "synthetic": "painted"}
        taken = [
            (cell.arm, cell.x, cell.seed, number(near.real), number(near.synthetic), arms[near.nearer or "real"])
            for cell, near in chosen
        ]
        head = ["arm", x_name, "seed", *(f"distance of {name}" for name in arms.values()), "taken"]
        tables["Nearer to the target's imagery, kernel distances"] = pd.DataFrame(taken, columns=head)
    if report.missing:
        title = f"Missing: {len(report.missing)} of {len(report.missing) + len(report.cells)} cells"
        tables[title] = pd.DataFrame([(one.cell, one.reason) for one in report.missing], columns=["cell", "why"])
    return {title: table.map(_words) for title, table in tables.items()}


def _words(value: Any) -> str:
    if isinstance(value, Estimate):
        return f"{value:.3f}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def points(difference: Estimate) -> str:
    """A difference of mIoU in hundredths, as in "+1.3 [-0.2, +2.8]"."""
    return f"{difference.times(100):+.1f}"


def verdict(difference: Estimate) -> str:
    """The verdict by the interval of a difference: "better", "worse", or undecided."""
    if difference.low is None or difference.high is None:
        return "one seed cannot tell"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference can be told"


def to_markdown(report: StudyReport) -> str:
    """All tables and notes."""
    parts = [f"# Study: {report.sweep}", *header(report)]
    for title, table in tables_of(report).items():
        lines = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
        shown = (f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        parts += [f"## {title}", "\n".join(shown)]
    parts += ["## Notes", "\n".join(f"- {note}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


def to_html(report: StudyReport, figures: Mapping[str, bytes]) -> str:
    """The content of report.html, a self-contained file.

    Args:
        report: the numbers.
        figures: PNG files by name, from `geosynth.study.figures`.
    """
    tables = tables_of(report)
    return render_page("study", report=report, header=header(report), figures=figures, tables=tables)


def header(report: StudyReport) -> list[str]:
    """Paragraphs on what was done."""
    tested = "" if report.test_tiles is None else f"; tested on {counted(report.test_tiles, 'real tile')}"
    return [
        f"Data: {report.data} ({report.digest[:12]}){tested}. Generator: {report.generator}. {report.software}.",
        "Brackets: 95 % t intervals over seeds; over places: the same mean, with the interval of draws of test"
        " places. mIoU is that of real test tiles.",
    ]
