"""StudyReport: the numbers of a sweep, finished or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from geosynth.study.plan import Cell, Contrast, Place
from geosynth.study.workshop import CellResult

# --- Means over seeds with their uncertainty.


class Summary(BaseModel):
    """A mean over seeds.

    Attributes:
        mean: of the values.
        low, high: 95 % t interval of the mean; None for fewer than two seeds.
        n: seeds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float | None
    high: float | None
    n: int

    def text(self, scale: float = 1.0, sign: str = "") -> str:
        """As "0.512 [0.480, 0.544]", three digits after the point; without an interval if there is none.

        Args:
            scale: what values are multiplied by; above 1 one digit after the point is shown.
            sign: "+" shows that of positive values too.
        """
        digits = f"{sign}.{1 if scale > 1 else 3}f"
        shown = f"{self.mean * scale:{digits}}"
        if self.low is None or self.high is None:
            return shown
        return f"{shown} [{self.low * scale:{digits}}, {self.high * scale:{digits}}]"


def summarise(values: Sequence[float]) -> Summary:
    """Mean and mean -+ t s / sqrt(n), where t is the 97.5 % quantile of Student's t with n - 1 degrees of freedom.

    Over seeds: it tells how the result varies with tiles, weights and images drawn anew, not with the test area.

    Args:
        values: one a seed, at least one.
    """
    array = np.asarray(values, dtype=np.float64)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Summary(mean=mean, low=None, high=None, n=n)
    reach = float(stats.t.ppf(0.975, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return Summary(mean=mean, low=mean - reach, high=mean + reach, n=n)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Part):
    """One setting of one arm, over its finished seeds.

    Attributes:
        arm, x: see `plan.Place`.
        seeds: that are finished.
        real_tiles, synthetic_tiles: that its segmenters were trained on.
        miou: on the real test tiles, 0..1.
        class_iou: mean over seeds; None where the class never occurs.
        frechet: by feature space; empty where nothing was compared.
        diversity: mean absolute difference of two realisations; None likewise.
    """

    arm: str
    x: float
    seeds: tuple[int, ...]
    real_tiles: int
    synthetic_tiles: int
    miou: Summary
    class_iou: dict[str, float | None]
    frechet: dict[str, Summary]
    diversity: Summary | None


class Difference(_Part):
    """mIoU of an arm minus that of its baseline, seed by seed; over seeds that both have.

    Attributes:
        arm, x: see `plan.Place`.
        baseline, baseline_x: what it is compared with.
        miou: the difference.
    """

    arm: str
    x: float
    baseline: str
    baseline_x: float
    miou: Summary


class Missing(_Part):
    """A cell without a result: what it is, and why."""

    cell: str
    reason: str


class CellRow(_Part):
    """One finished cell."""

    arm: str
    x: float
    seed: int
    key: str
    result: CellResult


class StudyReport(_Part):
    """A sweep's results.

    Attributes:
        sweep: "replace", "augment" or "diversity".
        software: version of geosynth.
        data: path of the store.
        digest: of its content.
        generator: what the synthetic tiles come from, in words.
        settings: of the study.
        test_tiles: real tiles that every segmenter is tested on; None before the first cell is finished.
        rows: by arm and setting.
        differences: of interest.
        cells: finished ones.
        missing: the others.
        notes: what a reader must know, one sentence each.
    """

    sweep: str
    software: str
    data: str
    digest: str
    generator: str
    settings: dict[str, Any]
    test_tiles: int | None
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    cells: tuple[CellRow, ...]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """For a file; ends with a line feed."""
        return self.model_dump_json(indent=1) + "\n"


def tabulate_rows(cells: Sequence[CellRow]) -> tuple[Row, ...]:
    """Cells of equal arm and setting become one row; in the order of their first cells."""
    groups: dict[tuple[str, float], list[CellRow]] = {}
    for cell in cells:
        groups.setdefault((cell.arm, cell.x), []).append(cell)
    return tuple(_row(arm, x, members) for (arm, x), members in groups.items())


def _row(arm: str, x: float, cells: Sequence[CellRow]) -> Row:
    results = [cell.result for cell in cells]
    diverse = [result.diversity for result in results if result.diversity is not None]
    spaces = {name for result in results for name in result.frechet or {}}
    return Row(
        arm=arm,
        x=x,
        seeds=tuple(cell.seed for cell in cells),
        real_tiles=results[0].num_real,
        synthetic_tiles=results[0].num_synthetic,
        miou=summarise([result.miou for result in results]),
        class_iou={name: _mean_iou([result.class_iou[name] for result in results]) for name in results[0].class_iou},
        frechet={name: summarise([(result.frechet or {})[name] for result in results]) for name in sorted(spaces)},
        diversity=summarise(diverse) if diverse else None,
    )


def _mean_iou(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return summarise(known).mean if known else None


def tabulate_differences(cells: Sequence[CellRow], contrasts: Sequence[Contrast]) -> tuple[Difference, ...]:
    """Paired by seed; contrasts of which no seed has both sides are left out."""
    miou: dict[tuple[Place, int], float] = {(Place(cell.arm, cell.x), cell.seed): cell.result.miou for cell in cells}
    seeds = sorted({cell.seed for cell in cells})
    found = []
    for contrast in contrasts:
        pairs = [
            miou[contrast.place, seed] - miou[contrast.baseline, seed]
            for seed in seeds
            if (contrast.place, seed) in miou and (contrast.baseline, seed) in miou
        ]
        if pairs:
            found.append(
                Difference(
                    arm=contrast.place.arm,
                    x=contrast.place.x,
                    baseline=contrast.baseline.arm,
                    baseline_x=contrast.baseline.x,
                    miou=summarise(pairs),
                )
            )
    return tuple(found)


def missing_cells(
    cells: Sequence[Cell], finished: Mapping[Cell, Any], failed: Mapping[Cell, str]
) -> tuple[Missing, ...]:
    """The cells without a result, in the order of the plan."""
    return tuple(
        Missing(cell=str(cell), reason=failed.get(cell, "not done yet")) for cell in cells if cell not in finished
    )


# --- A study's numbers as rows of text: for CSV, Markdown and HTML alike.

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
