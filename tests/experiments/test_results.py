"""Tables and curves from the records of runs."""

import csv
import importlib.util
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.image_counts import write_image_counts
from epl_d2.evaluation.report import curves_record
from epl_d2.experiments.grid import read_grid
from epl_d2.experiments.results import write_results
from epl_d2.experiments.scores import scores_of_record

TOOL = Path(__file__).parents[2] / "tools" / "plot_boundary_curves.py"
WIDTHS = (1, 3)
GRID = """\
name: made_up
output: unused
config: unused.yaml
evaluate: {val: some_val, test: some_test}
widths: [1, 3]
seeds: [1, 2, 3]
baseline: base
controls: [worse]
methods: {base: {}, better: {}, absent: {}, worse: {}}
classes: true
paper:
  source: Table 0
  split: test
  numbers: {base: {mIoU: 60.0}, better: {mIoU: 61.5, BF@1px: 40.0}, elsewhere: {published: [70.0, 71.0]}}
  classes: {base: [50.0, 55.5, 65.0]}
  notes: [A note.]
"""

TWO_BASELINES = """\
name: pairs
config: unused.yaml
evaluate: {val: some_val, test: some_test}
widths: [1, 3]
seeds: [1]
classes: true
methods:
  "{model}{loss}": {product: {model: [a, b], loss: ["", _epl]}, baseline: "{model}"}
paper:
  source: Table 0
  split: test
  numbers: {"{model}{loss}": [60.0, 61.0, 70.0, 72.5]}
  classes: {b: [1, 2, 3]}
"""


def statistics_of(shift: int, seed: int):
    """Counts of 6 images in which the prediction is the target moved by `shift` pixels."""
    total, images = BoundaryStatistics(3, WIDTHS), {}
    for image in range(6):
        target = np.kron(np.random.default_rng(image).integers(0, 3, (4, 4)), np.ones((8, 8), int))
        statistics = total.empty_copy()
        statistics.update(np.roll(target, shift + (image == seed), axis=1), target)
        images[f"/x/{image}.png"] = statistics.counts
        total.merge(statistics)
    return total, images


def write_run(output, method, seed, shift, commit="abc", dirty=False):
    folder = output / method / f"seed_{seed}"
    metrics = {}
    for split, name in (("val", "some_val"), ("test", "some_test")):
        total, images = statistics_of(shift, seed)
        (folder / "inference" / name).mkdir(parents=True)
        write_image_counts(folder / "inference" / name / "image_counts.npz", images, WIDTHS)
        metrics[split] = scores_of_record(curves_record(total, ["a", "b", "c"], name))
    record = {
        **{"method": method, "seed": seed, "commits": [commit], "dirty": dirty, "config_hash": "h", "device": "d"},
        **{"minutes": 1.5, "threads": 1, "attempts": 1, "metrics": metrics},
        "evaluate": {"val": "some_val", "test": "some_test"},
    }
    (folder / "run.json").write_text(json.dumps(record))
    return metrics


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    return read_grid(tmp_path / "grid.yaml")


def cells_of(text, after, method):
    """Cells of a method's row in the first table after a phrase."""
    rows = text.split(after)[1].splitlines()
    return [cell.strip() for cell in next(row for row in rows if row.startswith(f"| {method}")).split("|")[2:-1]]


def test_tables_curves_and_marks(grid, tmp_path):
    scores = {seed: write_run(tmp_path, "base", seed, 3) for seed in (1, 2, 3)}
    better = {1: write_run(tmp_path, "better", 1, 1), 2: write_run(tmp_path, "better", 2, 1, "old", dirty=True)}
    files = write_results(grid, tmp_path, tmp_path, "abc")
    assert [file.name for file in files] == ["results.csv", "results.md", "curves_val.png", "curves_test.png"]
    assert all(file.stat().st_size > 100 for file in files)

    with files[0].open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"], row["note"]) for row in rows] == [
        *(("base", str(seed), "") for seed in (1, 2, 3)),
        ("better", "1", ""),
        ("better", "2", "another commit; dirty"),
    ]
    assert float(rows[3]["test/BF@1px"]) == pytest.approx(better[1]["test"]["BF@1px"], abs=1e-4)

    text = files[1].read_text()
    assert "5 of 12 runs finished" in text
    assert "Not finished: better/seed_3, absent/seed_1, absent/seed_2, absent/seed_3, worse/seed_1," in text
    assert "Difference to worse" not in text
    values = [scores[seed]["val"]["mIoU"] for seed in scores]
    half = 4.302653 * np.std(values, ddof=1) / math.sqrt(3)
    assert cells_of(text, "## val", "base")[1] == f"{np.mean(values):.2f} ± {half:.2f}"
    assert "better † ‡" in text

    difference = np.mean([better[seed]["test"]["BF@1px"] - scores[seed]["test"]["BF@1px"] for seed in (1, 2)])
    cell = cells_of(text.split("## test")[1], "Difference to base", "better")[2]
    assert cell.startswith(f"{difference:+.2f} [")
    low, high = map(float, cell.split("[")[1].rstrip("]").split(","))
    assert low <= difference <= high
    of_seed = cells_of(text.split("## test")[1], "Difference to base", "better, seed 2")
    assert of_seed[2] == f"{better[2]['test']['BF@1px'] - scores[2]['test']['BF@1px']:+.2f}"
    assert low > 0  # a shift of 1 pixel is better than one of 3 in every image

    cells = cells_of(text, "Published: Table 0.", "base")
    assert cells[0] == "3"
    assert cells[2:6] == ["60.00", "-", "-", "-"]
    cells = cells_of(text, "Published: Table 0.", "better")
    assert cells[2] == "61.50"
    gain = np.mean([better[seed]["test"]["mIoU"] - scores[seed]["test"]["mIoU"] for seed in (1, 2)])
    assert cells[3].startswith(f"{gain:+.2f} [")
    assert cells[4] == "+1.50"
    assert cells[5].startswith(f"{gain - 1.5:+.2f} [")
    low, high = ([float(x) for x in cell.split("[")[1].rstrip("]").split(",")] for cell in (cells[3], cells[5]))
    assert [x - 1.5 for x in low] == pytest.approx(high, abs=0.011)
    assert cells[7] == "40.00"
    assert cells[9:11] == ["-", "-"]  # the paper has no BF for the baseline
    rows = text.split("Published: Table 0.")[1].splitlines()
    assert [row.split(" | ")[0] for row in rows if row.startswith("| ")][2:5] == ["| base", "| better", "| elsewhere"]
    assert cells_of(text, "Published: Table 0.", "elsewhere")[:6] == ["-", "-", "71.00", "-", "+1.00", "-"]
    assert "Published only, not trained here: elsewhere." in text
    assert "- A note." in text

    assert cells_of(text.split("## test")[1], "IoU of each class", "b")[1] == "55.5"
    ious = [scores[seed]["test"]["IoU-b"] for seed in scores]
    assert cells_of(text.split("## test")[1], "IoU of each class", "b")[0].startswith(f"{np.mean(ious):.2f} ± ")
    assert cells_of(text.split("## test")[1], "IoU of each class", "mean")[1] == "60.00"
    assert "base, paper" not in text.split("## test")[0]
    assert write_results(grid, tmp_path, tmp_path, "abc")[1].read_text() == text


def test_differences_to_controls_and_scores_that_a_record_lacks(grid, tmp_path):
    records = {
        method: write_run(tmp_path, method, 1, shift) for method, shift in (("base", 3), ("better", 1), ("worse", 4))
    }
    text = write_results(grid, tmp_path, tmp_path, "abc")[1].read_text()
    to_control = text.split("## test")[1].split("Difference to worse")[1].split("Difference to")[0]
    header = to_control.split("|")[1:20]
    column = [cell.strip() for cell in header].index("BF-micro@3px")
    difference = records["better"]["test"]["BF-micro@3px"] - records["worse"]["test"]["BF-micro@3px"]
    assert to_control.split("| better |")[1].split("|")[column - 1].strip().startswith(f"{difference:+.2f} [")
    assert "| base |" not in to_control
    assert "Difference to base in contours alone" in text and "BF-micro-recall@1px" in text

    for method in records:  # as a version wrote it that did not know these scores
        file = tmp_path / method / "seed_1" / "run.json"
        record = json.loads(file.read_text())
        for scores in record["metrics"].values():
            for name in [name for name in scores if name.startswith(("BF-micro", "BF-any"))]:
                del scores[name]
        file.write_text(json.dumps(record))
    assert write_results(grid, tmp_path, tmp_path, "abc")[1].read_text() == text

    for file in tmp_path.rglob("image_counts.npz"):  # nor did that version count contours of any class
        with np.load(file) as counts:
            kept = {name: counts[name] for name in counts.files if not name.endswith("_any")}
        np.savez(file, **kept)
    older = write_results(grid, tmp_path, tmp_path, "abc")[1].read_text()
    assert older != text and len(older.splitlines()) == len(text.splitlines()) and "nan" not in older


def test_runs_that_do_not_belong_together_are_refused_before_anything_is_written(grid, tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "runs", "base", seed, 3)
        configuration = {"SEED": seed, "SOLVER": {"MAX_ITER": 40 * seed}, **({"NEW": 1} if seed == 2 else {})}
        (tmp_path / "runs" / "base" / f"seed_{seed}" / "run_config.yaml").write_text(yaml.safe_dump(configuration))
    with pytest.raises(
        ValueError, match=r"seed_1 and .*seed_2 .*of which there is no mean: SOLVER.MAX_ITER was 40 and is 80\. "
    ):
        write_results(grid, tmp_path / "out", tmp_path / "runs", "abc")
    file = tmp_path / "runs" / "base" / "seed_2" / "run_config.yaml"
    file.write_text(file.read_text().replace("80", "40"))
    write_results(grid, tmp_path / "good", tmp_path / "runs", "abc")

    (tmp_path / "grid.yaml").write_text(GRID.replace("some_val", "another"))
    with pytest.raises(ValueError, match=r"seed_1 was evaluated on {'val': 'some_val', .* says {'val': 'another', "):
        write_results(read_grid(tmp_path / "grid.yaml"), tmp_path / "out", tmp_path / "runs", "abc")
    assert not (tmp_path / "out").exists()


def test_methods_with_baselines_of_their_own(tmp_path):
    """Each is compared with its own baseline, and has a table of classes with it."""
    (tmp_path / "grid.yaml").write_text(TWO_BASELINES)
    grid = read_grid(tmp_path / "grid.yaml")
    shifts = {"a": 3, "a_epl": 1, "b": 4, "b_epl": 2}
    scores = {name: write_run(tmp_path, name, 1, shift)["test"] for name, shift in shifts.items()}
    text = write_results(grid, tmp_path, tmp_path, "abc")[1].read_text().split("## test")[1]
    for model in "ab":
        difference = scores[f"{model}_epl"]["mIoU"] - scores[model]["mIoU"]
        cell = cells_of(text, "Difference to its baseline,", f"{model}_epl - {model}")[1]
        assert cell.startswith(f"{difference:+.2f} [")
        cells = cells_of(text, "Published: Table 0.", f"{model}_epl")
        assert cells[3].startswith(f"{difference:+.2f} [")
        assert cells[4] == {"a": "+1.00", "b": "+2.50"}[model]
    assert "| class | a | a_epl |" in text
    assert "| class | b | b, paper | b_epl |" in text


def test_curves_of_grids_in_one_picture(grid, tmp_path, monkeypatch):
    """`tools/plot_boundary_curves.py --grids`: a row for each data set, the mean over seeds of each method."""
    scores = {seed: write_run(tmp_path / "runs", "better", seed, 1) for seed in (1, 2)}
    write_run(tmp_path / "runs", "base", 1, 3)
    path = tmp_path / "grid.yaml"
    path.write_text(path.read_text() + f"runs: {tmp_path / 'runs'}\n")
    spec = importlib.util.spec_from_file_location("plot_boundary_curves", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    rows = tool.read_grids([path])
    assert {row: [record["name"] for record in records] for row, records in rows.items()} == {
        "some_val": ["base", "better"],
        "some_test": ["base", "better"],
    }
    record = rows["some_test"][1]
    assert record["widths"] == [1, 3]
    expected = np.mean([scores[seed]["test"]["Trimap-mIoU@3px"] for seed in (1, 2)])
    assert record["Trimap-mIoU"][1] == pytest.approx(expected)
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--grids", str(path), "--output", str(tmp_path / "curves.png")])
    tool.main()
    height, width = cv2.imread(str(tmp_path / "curves.png")).shape[:2]
    assert 0.7 < height / width < 0.9  # two rows of two panels
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--output", str(tmp_path / "curves.png")])
    with pytest.raises(SystemExit):
        tool.main()


def test_a_grid_of_masks_has_no_curves(grid, tmp_path, monkeypatch, capsys):
    """Beside a grid that has some, too: its rows would be empty."""
    write_run(tmp_path / "runs", "base", 1, 3)
    write_run(tmp_path / "mask_runs", "better", 1, 1)
    file = tmp_path / "mask_runs" / "better" / "seed_1" / "run.json"
    metrics = {split: {"segm/AP": 30.0, "boundary/AP": 20.0} for split in ("val", "test")}
    file.write_text(json.dumps({**json.loads(file.read_text()), "metrics": metrics}))
    paths = [tmp_path / "grid.yaml", tmp_path / "masks.yaml"]
    for path, runs in zip(paths, ("runs", "mask_runs"), strict=True):
        path.write_text(GRID + f"runs: {tmp_path / runs}\n")
    spec = importlib.util.spec_from_file_location("plot_boundary_curves", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for grids in (paths, paths[1:]):
        picture = tmp_path / "curves.png"
        monkeypatch.setattr(sys, "argv", [str(TOOL), "--grids", *map(str, grids), "--output", str(picture)])
        assert tool.main() == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {paths[1]}: better has no boundary F on some_val to draw")
        assert not picture.exists()


def test_nothing_finished_and_broken_records_are_refused(grid, tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        write_results(grid, tmp_path, tmp_path, "abc")
    (tmp_path / "base" / "seed_1").mkdir(parents=True)
    (tmp_path / "base" / "seed_1" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json: not JSON"):
        write_results(grid, tmp_path, tmp_path, "abc")
