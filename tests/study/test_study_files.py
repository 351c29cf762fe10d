"""What a study leaves for people: tables, figures, a page."""

import csv
import io
import itertools
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from studies import AUGMENT, DIVERSITY, REPLACE

from geosynth.estimate import Estimate, mean_over_seeds
from geosynth.study.figures import figures_of
from geosynth.study.plan import contrasts
from geosynth.study.report import Missing, StudyReport, tabulate_differences, tabulate_rows
from geosynth.study.run import run_cells
from geosynth.study.study import Study
from geosynth.study.tables import points, to_csv, to_html, to_markdown, verdict


@pytest.fixture(scope="module")
def folders(study_store, tmp_path_factory):
    """Of a finished study of each sweep."""
    from studies import FakeOperations

    out = tmp_path_factory.mktemp("files")
    operations = FakeOperations(out / "calls.txt")
    for settings in (REPLACE, AUGMENT, DIVERSITY):
        run_cells(Study.open(study_store, out / "study", settings, None, operations))
    return out / "study"


@pytest.mark.parametrize("sweep", ["replace", "augment", "diversity"])
def test_all_files_tell_the_same(folders, sweep):
    folder = folders / sweep
    values = json.loads((folder / "results.json").read_text())
    report = StudyReport.model_validate(values)
    assert json.loads(report.to_json()) == values
    rows = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert len(rows) == len(report.rows)
    for line, row in zip(rows, report.rows, strict=True):
        assert (line["arm"], int(line["n"])) == (row.arm, row.miou.n)
        assert float(line["mIoU"]) == pytest.approx(row.miou.value, abs=1e-5)
        assert float(line["mIoU low"]) == pytest.approx(row.miou.low, abs=1e-5)
    markdown, page = (folder / "table.md").read_text(), (folder / "report.html").read_text()
    for row in report.rows:
        assert f"{row.miou:.3f}" in markdown
        assert f"{row.miou:.3f}" in page
        ious = " | ".join("-" if iou is None else f"{iou:.3f}" for iou in row.class_iou.values())
        assert f"| {row.arm} | {row.x:g} | {ious} |" in markdown
    for note in report.notes:
        assert note in markdown
    assert "Missing" not in markdown


def test_verdicts_follow_from_intervals():
    assert verdict(mean_over_seeds([0.1, 0.11, 0.12])) == "better"
    assert verdict(mean_over_seeds([-0.1, -0.11, -0.12])) == "worse"
    assert verdict(mean_over_seeds([-0.1, 0.11, 0.12])) == "no difference can be told"
    assert verdict(mean_over_seeds([0.3])) == "one seed cannot tell"


def test_points_have_a_sign():
    assert points(mean_over_seeds([0.012, 0.012])) == "+1.2 [+1.2, +1.2]"
    assert points(mean_over_seeds([-0.5])) == "-50.0"


def test_names_of_fields_stay_so_that_old_results_can_be_read(folders):
    values = json.loads((folders / "diversity" / "results.json").read_text())
    for row in values["rows"]:
        for mean in (row["miou"], row["diversity"], *row["frechet"].values()):
            assert list(mean) == ["mean", "low", "high", "n"]
            assert isinstance(mean["n"], int)
    lines = (folders / "diversity" / "table.csv").read_text().splitlines()
    assert lines[0] == (
        "arm,lambda,real tiles,synthetic tiles,n,mIoU,mIoU low,mIoU high,"
        '"frechet lite0 (red, green, blue)","frechet lite0 (red, green, blue) low",'
        '"frechet lite0 (red, green, blue) high",diversity,diversity low,diversity high,'
        "accuracy,accuracy low,accuracy high"
    )
    assert lines[1].startswith("synthetic,0,0,4,2,0.35,")
    table = (folders / "diversity" / "table.md").read_text()
    head = "| arm | lambda | real | synthetic | n | mIoU | Frechet, lite0 (red, green, blue) | diversity, DN |"
    assert head in table
    assert (
        "| synthetic | 2 | 0 | 4 | 2 | 0.350 [-0.285, 0.985] | 3.000 [3.000, 3.000] | 1.500 [1.500, 1.500] |" in table
    )


def test_differences_have_an_interval_over_places_where_cells_kept_them_apart(folders):
    report = StudyReport.model_validate_json((folders / "augment" / "results.json").read_text())
    assert "over places |" not in to_markdown(report)
    # Of each of three places as much is right as of the others, more of it with ordinary augmentation.
    cells = []
    for cell in report.cells:
        right = 60 + 20 * ("ordinary" in cell.arm) + cell.seed
        counts = tuple(((right, 100 - right), (100 - right, right)) for _ in range(3))
        cells.append(cell.model_copy(update={"result": cell.result.model_copy(update={"place_confusions": counts})}))
    rows, differences = tabulate_rows(cells), tabulate_differences(cells, contrasts(AUGMENT))
    expected = {right: right / (200 - right) for right in (60, 61, 80, 81)}
    for row in rows:
        first = 60 + 20 * ("ordinary" in row.arm)
        assert row.over_places.value == pytest.approx((expected[first] + expected[first + 1]) / 2)
        assert row.over_places.low == pytest.approx(row.over_places.high)
    gains = {(one.arm, one.baseline): one.over_places.value for one in differences}
    assert gains["real + ordinary", "real"] == pytest.approx(
        (expected[80] + expected[81] - expected[60] - expected[61]) / 2
    )
    assert gains["real + synthetic", "real"] == 0
    shown = to_markdown(report.model_copy(update={"rows": rows, "differences": differences}))
    assert "| accuracy | mIoU over places |" in shown
    assert "| verdict | points over places |" in shown
    assert "| +24.0 [+24.0, +24.0] |" in shown
    alone = cells[0].model_copy(update={"result": report.cells[0].result})  # made before they were kept
    some = tabulate_rows([alone, *cells[1:]])
    assert some[0].over_places is None
    shown = to_markdown(report.model_copy(update={"rows": some, "differences": differences}))
    means = next(line for line in shown.splitlines() if line.startswith(f"| {some[0].arm} |"))
    assert means.endswith(" | - |")
    table = list(csv.DictReader(io.StringIO(to_csv(report.model_copy(update={"rows": some})))))
    assert table[0]["mIoU over places"] == ""
    assert float(table[-1]["mIoU over places"]) == pytest.approx(some[-1].over_places.value, abs=1e-5)


def test_seeds_without_both_sides_count_in_no_difference_and_old_cells_have_no_accuracy(folders):
    report = StudyReport.model_validate_json((folders / "augment" / "results.json").read_text())
    [whole, *_] = tabulate_differences(report.cells, contrasts(AUGMENT))
    seeds = {cell.seed for cell in report.cells}
    gone = max(seeds)
    for arm, x in ((whole.arm, whole.x), (whole.baseline, whole.baseline_x)):
        some = [cell for cell in report.cells if (cell.arm, cell.x, cell.seed) != (arm, x, gone)]
        [fewer, *_] = tabulate_differences(some, contrasts(AUGMENT))
        assert (fewer.arm, fewer.x, fewer.baseline) == (whole.arm, whole.x, whole.baseline)
        assert fewer.miou.n == whole.miou.n - 1 == len(seeds) - 1
        none = [cell for cell in some if (cell.arm, cell.x) != (arm, x)]
        for one in tabulate_differences(none, contrasts(AUGMENT)):
            assert (arm, x) not in ((one.arm, one.x), (one.baseline, one.baseline_x))
    old = [
        cell.model_copy(update={"result": cell.result.model_copy(update={"accuracy": None})}) for cell in report.cells
    ]
    rows = tabulate_rows(old)
    assert {row.accuracy for row in rows} == {None}
    table = csv.DictReader(io.StringIO(to_csv(report.model_copy(update={"rows": rows}))))
    assert {line["accuracy"] for line in table} == {""}


def test_hostile_names_are_escaped(folders):
    report = StudyReport.model_validate_json((folders / "augment" / "results.json").read_text())
    hostile = "<script>alert('x')</script>&\"|"
    rows = tuple(row.model_copy(update={"arm": hostile}) for row in report.rows)
    missing = (Missing(cell=hostile, reason=hostile),)
    report = report.model_copy(
        update={"data": hostile, "generator": hostile, "notes": (hostile,), "rows": rows, "missing": missing}
    )
    page = to_html(report, {hostile: b""})
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&#34;|" in page
    for line, after in itertools.pairwise(to_markdown(report).splitlines()):
        if line.startswith("|") and after.startswith("|"):
            assert line.count("|") == after.count("|")  # a bar in a name ends no cell


def test_the_page_fetches_nothing(folders):
    for page in folders.glob("*/report.html"):
        text = page.read_text()
        assert not re.search(r"(?:src|href)=\"(?!data:)", text)
        assert "<script" not in text
        assert text.count("<img") == len(list(page.parent.glob("*.png"))) > 0


def test_figures_are_pictures_and_the_same_each_time(folders):
    assert {path.name for path in (folders / "diversity").glob("*.png")} == {
        "miou.png",
        "frechet_1.png",
        "diversity.png",
    }
    report = StudyReport.model_validate_json((folders / "augment" / "results.json").read_text())
    again = figures_of(report)
    [(name, png)] = again.items()
    assert (folders / "augment" / name).read_bytes() == png
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3)}
    assert {(27, 108, 168), (90, 169, 214), (209, 73, 91), (232, 153, 77)} <= colours  # four arms


def test_figures_show_the_means_and_intervals_of_the_table(folders, monkeypatch):
    report = StudyReport.model_validate_json((folders / "augment" / "results.json").read_text())
    first, second, *others = report.rows
    rows = (
        second.model_copy(update={"miou": mean_over_seeds([0.3])}),  # no interval
        first.model_copy(update={"miou": Estimate()}),  # no mean either
        *others,
    )
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    figures_of(report.model_copy(update={"rows": rows}))
    [axes] = drawn[0].axes
    arms = list(dict.fromkeys(row.arm for row in rows))
    assert len(axes.containers) == len(arms)
    shifts = []
    for arm, (line, _, (bars,)) in zip(arms, axes.containers, strict=True):
        shown = sorted((row for row in rows if row.arm == arm and row.miou.value is not None), key=lambda row: row.x)
        xs, ys = np.array(line.get_data(), dtype=float)
        np.testing.assert_allclose(ys, [row.miou.value for row in shown])
        of_all = [row.miou for row in shown]
        ends = [(one.value, one.value) if one.low is None else (one.low, one.high) for one in of_all]
        np.testing.assert_allclose([part[:, 1] for part in bars.get_segments()], ends)
        shifts += [(xs - [row.x for row in shown]).tolist()]
    # Bars of one setting lie side by side, around it, nearer to each other than to another setting.
    settings = sorted({row.x for row in rows})
    assert np.ptp([shift for of_arm in shifts for shift in of_arm]) < np.diff(settings).min() / 2
    steps = [of_arm[0] for of_arm in shifts if of_arm]
    assert steps == sorted(set(steps))
    assert sum(steps) == pytest.approx(0, abs=1e-9)


def test_a_study_without_results_has_a_table_of_what_is_missing(study_store, tmp_path, operations):
    report = Study.open(study_store, tmp_path / "out", REPLACE, None, operations).report({})
    assert "Missing: 9 of 9 cells" in to_markdown(report)
    assert len(to_csv(report).splitlines()) == 1
    assert not figures_of(report)
    assert report.test_tiles is None
