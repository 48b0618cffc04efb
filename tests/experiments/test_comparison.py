"""tools/compare_counts.py: tables from counts of images, wherever they lie, and from those that it stored."""

import importlib.util
import re
import shutil
import sys
from functools import cache
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from matplotlib.figure import Figure

from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.curves import PANELS, draw_class_gains, draw_gains
from epl_d2.evaluation.image_counts import write_image_counts
from epl_d2.experiments.comparison import class_gains, difference_rows, find_runs, gain_curves, paired_gain, pool_starts
from epl_d2.experiments.intervals import bootstrap_draws, paired_differences

TOOL = Path(__file__).parents[2] / "tools" / "compare_counts.py"
SHIFTS = {"base": 3, "better": 1, "worse": 4}


@cache
def scores_of_frame(frame: int, shift: int, seed: int) -> BoundaryStatistics:
    target = np.kron(np.random.default_rng(frame).integers(0, 3, (4, 4)), np.ones((8, 8), int))
    statistics = BoundaryStatistics(3, (1, 2, 3))
    statistics.update(np.roll(target, shift + (frame == seed), axis=1), target)
    return statistics


def write_run(file: Path, shift: int, seed: int) -> BoundaryStatistics:
    """Counts of 6 frames whose prediction is the target moved by `shift` pixels, in one of them by one more."""
    total, images = BoundaryStatistics(3, (1, 2, 3)), {}
    for frame in range(6):
        statistics = scores_of_frame(frame, shift, seed)
        images[f"/x/Seq_{frame:03d}.png"] = statistics.counts
        total.merge(statistics)
    file.parent.mkdir(parents=True)
    write_image_counts(file, images, (1, 2, 3))
    return total


@pytest.fixture
def runs(tmp_path):
    """A folder of runs as grids and evaluations leave them, and the scores of each."""
    places = {"base": "inference/some_test", "better": "inference/some_test", "worse": "inference"}
    statistics = {
        (method, seed): write_run(tmp_path / "runs" / method / f"seed_{seed}" / place / "image_counts.npz", shift, seed)
        for (method, shift), place in zip(SHIFTS.items(), places.values(), strict=True)
        for seed in (1, 2)
    }
    for seed in (1, 2):
        (tmp_path / f"runs/worse/seed_{seed}/config.yaml").write_text("DATASETS: {TEST: [some_test]}")
    return tmp_path / "runs", statistics


@pytest.fixture
def compare(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("compare_counts", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tool", *map(str, arguments)])
        code = tool.main()
        return code, *capsys.readouterr()

    run.tool = tool
    return run


def cells(text: str, row: str) -> list[str]:
    return [cell.strip() for cell in text.split(f"| {row} |")[1].splitlines()[0].split("|")[:-1]]


def test_tables_are_those_of_the_scores_and_of_stored_counts(runs, compare, tmp_path):
    folder, statistics = runs
    options = ("--dataset", "some_test", "--baseline", "base", "--widths", "1", "3", "--block", "2")
    code, text, _ = compare(folder, *options, "--controls", "worse", "--store", tmp_path / "stored")
    assert code == 0
    micro = {run: 100 * of_run.compute()["boundary_f_micro"][0] for run, of_run in statistics.items()}
    header = next(line for line in text.splitlines() if line.startswith("| method"))
    column = [cell.strip() for cell in header.split("|")].index("BF-micro@1px") - 2
    assert cells(text, "base")[column].startswith(f"{(micro['base', 1] + micro['base', 2]) / 2:.2f} ± ")
    to_base, to_worse = text.split("Difference to ")[1:]
    assert "blocks of up to 2 consecutive frames" in to_base and to_worse.startswith("worse")
    for part, reference in ((to_base, "base"), (to_worse, "worse")):
        differences = [micro["better", seed] - micro[reference, seed] for seed in (1, 2)]
        assert cells(part, "better")[column].startswith(f"{sum(differences) / 2:+.2f} [")
        assert cells(part, "better, seed 2")[column] == f"{differences[1]:+.2f}"
    assert "| base |" not in to_worse
    assert compare(tmp_path / "stored", *options, "--controls", "worse")[1] == text
    files = sorted(path.relative_to(tmp_path / "stored").as_posix() for path in (tmp_path / "stored").rglob("*.npz"))
    assert files == [f"{method}/seed_{seed}/some_test.npz" for method in SHIFTS for seed in (1, 2)]
    assert "BF-any@3px" in compare(folder, *options, "--contours")[1]


@pytest.mark.parametrize("way", ["itself", "round about", "link"])
def test_counts_are_not_stored_over_those_that_are_read(runs, compare, tmp_path, monkeypatch, way):
    """Stored counts have three widths; one of them stored in their place would be all that is left."""
    options = ("--dataset", "some_test", "--widths")
    stored = tmp_path / "stored"
    compare(runs[0], *options, "1", "2", "3", "--store", stored)
    before = {path: path.read_bytes() for path in stored.rglob("*.npz")}
    (tmp_path / "link").symlink_to(stored)
    monkeypatch.chdir(tmp_path)
    target = {"itself": stored, "round about": "runs/../stored", "link": "link"}[way]
    code, text, said = compare(stored, *options, "1", "--store", target)
    assert len(before) == 6 and {path: path.read_bytes() for path in stored.rglob("*.npz")} == before
    assert (code, text) == (1, "") and said == (
        f"error: --store is {target}, the folder of the runs themselves; choose another folder\n"
    )


def test_runs_from_several_starting_points_are_one_method(compare, tmp_path):
    miou = {}
    for method, start, seed in product(("base", "better"), (11, 12), (1, 2)):
        file = tmp_path / "runs" / f"{method}_from_{start}" / f"seed_{seed}" / "some_test.npz"
        miou[method, start, seed] = 100 * write_run(file, SHIFTS[method] + start - 11, seed).compute()["mIoU"]
    options = ("--dataset", "some_test", "--baseline", "base", "--widths", "1", "--pool-starts")
    code, text, _ = compare(tmp_path / "runs", *options, "--store", tmp_path / "stored")
    assert code == 0
    gains = text.split("Difference to ")[1]
    assert "over starting points, seeds and images" in gains
    assert "mean over starting points, of each its seeds' mean, ± half width" in text
    of_starts = [(miou["base", start, 1] + miou["base", start, 2]) / 2 for start in (11, 12)]
    # Of two values with one degree of freedom, whose t quantile is 12.706.
    half = 12.706205 * abs(of_starts[0] - of_starts[1]) / 2
    assert cells(text, "base")[:2] == ["4", f"{sum(of_starts) / 2:.2f} ± {half:.2f}"]
    differences = {unit: miou[("better", *unit)] - miou[("base", *unit)] for unit in product((11, 12), (1, 2))}
    for (start, seed), difference in differences.items():
        assert cells(gains, f"better, from {start}, seed {seed}")[1] == f"{difference:+.2f}"
    count, of_miou = cells(gains, "better")[:2]
    assert count == "4" and of_miou.startswith(f"{sum(differences.values()) / 4:+.2f} [")
    assert compare(tmp_path / "stored", *options)[1] == text

    pooled = pool_starts(find_runs(tmp_path / "runs", "some_test"))
    ours, theirs = ([*pooled[method].values()] for method in ("better", "base"))
    ends = {}
    for name, seeds in (("starts", [11, 11, 12, 12]), ("seeds", 4)):
        replicates = paired_differences(ours, theirs, *bootstrap_draws(seeds, 6, 2000))["mIoU"]
        ends[name] = np.quantile(replicates, [0.025, 0.975])
    assert of_miou.endswith(f"[{ends['starts'][0]:+.2f}, {ends['starts'][1]:+.2f}]")
    assert np.abs(ends["starts"] - ends["seeds"]).max() > 0.01

    (tmp_path / "runs" / "base_from_11").rename(tmp_path / "runs" / "alone")
    code, _, error = compare(tmp_path / "runs", *options)
    assert code == 1 and "'alone' name no starting point; all must be METHOD_from_START" in error


def test_without_a_baseline_every_run_has_its_interval_over_blocks_of_frames(runs, compare):
    folder, statistics = runs
    code, text, _ = compare(folder, "--dataset", "some_test", "--methods", "better", "--widths", "1", "--block", "2")
    assert code == 0 and "blocks of up to 2 consecutive frames" in text
    header = next(line for line in text.splitlines() if line.startswith("| method"))
    column = [cell.strip() for cell in header.split("|")].index("BF-micro@1px") - 2
    rows = [line for line in text.splitlines() if line.startswith("| better")]
    assert len(rows) == 2
    for seed, row in zip((1, 2), rows, strict=True):
        scores = {}
        draws = [tuple(draw) for draw in bootstrap_draws(1, 3, 2000)[1]]  # of three blocks of two frames
        for draw in {*draws}:
            chosen = BoundaryStatistics(3, (1, 2, 3))
            for block, times in enumerate(draw):
                for frame in [2 * block, 2 * block + 1] * times:
                    chosen.merge(scores_of_frame(frame, SHIFTS["better"], seed))
            scores[draw] = 100 * chosen.compute()["boundary_f_micro"][0]
        low, high = np.quantile([scores[draw] for draw in draws], [0.025, 0.975])
        whole = 100 * statistics["better", seed].compute()["boundary_f_micro"][0]
        assert [cell.strip() for cell in row.split("|")[2:-1]][column] == f"{whole:.2f} [{low:.2f}, {high:.2f}]"


def test_differences_need_a_baseline(runs, compare, capsys):
    with pytest.raises(SystemExit, match="2"):
        compare(runs[0], "--dataset", "some_test", "--controls", "worse")
    assert "--baseline" in capsys.readouterr().err


def test_one_block_of_images_has_no_interval(runs, compare):
    folder, statistics = runs
    options = ("--dataset", "some_test", "--methods", "base", "better", "--widths", "1", "--block", "6")
    differences = compare(folder, *options, "--baseline", "base")[1].split("Difference to")[1]
    ious = {run: 100 * of_run.compute()["mIoU"] for run, of_run in statistics.items()}
    gain = sum(ious["better", seed] - ious["base", seed] for seed in (1, 2)) / 2
    assert cells(differences, "better")[1] == f"{gain:+.2f}" and "[" not in differences
    assert cells(compare(folder, *options)[1], "base | 1")[0] == f"{ious['base', 1]:.2f}"


def test_runs_at_other_widths_are_compared_at_those_of_all(runs, compare, tmp_path):
    options = ("--dataset", "some_test", "--methods", "base", "better", "--widths", "1")
    expected = compare(runs[0], *options, "--baseline", "base")[1]
    compare(runs[0], *options, "3", "--store", tmp_path / "stored")
    shutil.rmtree(tmp_path / "stored" / "better")
    (tmp_path / "stored" / "better").symlink_to(runs[0] / "better")
    assert compare(tmp_path / "stored", *options, "--baseline", "base")[1] == expected


def test_counts_of_another_data_set_are_not_taken(runs, compare):
    folder = runs[0]
    assert [*find_runs(folder, "some_test")] == [*SHIFTS]
    for seed in (1, 2):
        (folder / f"worse/seed_{seed}/config.yaml").write_text("DATASETS: {TEST: [some_val]}")
    assert [*find_runs(folder, "some_test")] == ["base", "better"] and [*find_runs(folder, "some_val")] == ["worse"]
    (folder / "worse/seed_1/config.yaml").unlink()
    assert [*find_runs(folder, "some_val")["worse"]] == [2]
    (folder / "base" / "seed_01").symlink_to(folder / "base" / "seed_1")
    with pytest.raises(ValueError, match=r"base holds the seed 1 twice: seed_1 and seed_"):
        find_runs(folder, "some_test")


def test_methods_without_a_seed_in_common_are_named(runs, compare, tmp_path):
    folder = runs[0]
    shutil.rmtree(folder / "base" / "seed_2")
    shutil.rmtree(folder / "worse" / "seed_1")
    options = ("--dataset", "some_test", "--baseline", "base", "--widths", "1")
    code, text, _ = compare(folder, *options)
    assert code == 0 and text.endswith("\nNo seed in common with base: worse.\n")
    for option in ("--picture", "--class-picture"):
        code, _, error = compare(folder, *options, "--methods", "worse", option, tmp_path / "picture.png")
        assert code == 1 and "none of worse shares a seed with base" in error
        assert not (tmp_path / "picture.png").exists()


def test_gains_against_the_width_are_drawn(runs, compare, tmp_path):
    options = ("--dataset", "some_test", "--baseline", "base", "--widths", "1", "--picture", tmp_path / "gains.png")
    assert compare(runs[0], *options)[0] == 0
    assert cv2.imread(str(tmp_path / "gains.png")) is not None
    found = find_runs(runs[0], "some_test")
    record = gain_curves("better", found["better"], found["base"], ["BF-micro"], None)
    assert record["widths"] == [1, 2, 3]
    for column, width in enumerate(record["widths"]):
        (row,) = difference_rows("x", {1: found["better"][1]}, {1: found["base"][1]}, [f"BF-micro@{width}px"])
        one = gain_curves("x", {1: found["better"][1]}, {1: found["base"][1]}, ["BF-micro"], None)["BF-micro"]
        assert row[2] == f"{one['mean'][column]:+.2f} [{one['low'][column]:+.2f}, {one['high'][column]:+.2f}]"
        low, mean, high = (record["BF-micro"][key][column] for key in ("low", "mean", "high"))
        assert low <= mean <= high


def test_pictures_of_gains_have_one_legend_that_covers_no_panel(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    gain = {"mean": [1.0, 2.0], "low": [0.0, 1.0], "high": [2.0, 3.0]}
    records = [{"name": name, "widths": [1, 2], **dict.fromkeys(PANELS, gain)} for name in ("one", "other")]
    draw_gains(records, "base", tmp_path / "gains.png")
    classes = [{"name": name, "IoU": gain, "BF@1px": gain} for name in ("one", "other")]
    draw_class_gains(classes, ["a", "b"], "base", tmp_path / "classes.png")
    for figure in figures:
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["one", "other"]
        figure.draw_without_rendering()
        panels = [axes.get_window_extent() for axes in figure.axes]
        assert len(panels) > 1
        assert all(legend.get_window_extent().y1 < panel.y0 for panel in panels)
        assert all(axes.get_legend() is None for axes in figure.axes)
    assert len(figures) == 2


def test_gains_of_classes_are_those_of_the_scores_and_are_drawn(runs, compare, tmp_path, monkeypatch):
    folder, statistics = runs
    found = find_runs(folder, "some_test")
    record = class_gains("better", found["better"], found["base"], ["IoU", "BF@3px"], 2)
    for metric, of_scores in (("IoU", lambda s: s["IoU"]), ("BF@3px", lambda s: s["boundary_f_per_class"][:, 2])):
        gains = [
            of_scores(statistics["better", seed].compute()) - of_scores(statistics["base", seed].compute())
            for seed in (1, 2)
        ]
        np.testing.assert_allclose(record[metric]["mean"], 100 * np.mean(gains, axis=0), rtol=1e-9)
    # The mean over classes of a replicate is the replicate of the mean, so the ends lie around those of the mean.
    _, by_seed, (low, high) = paired_gain(found["better"], found["base"], ["BF@3px"], 2)
    assert np.mean(record["BF@3px"]["mean"]) == pytest.approx(by_seed.mean())
    assert np.mean(record["BF@3px"]["low"]) <= low[0] + 1e-9 and np.mean(record["BF@3px"]["high"]) >= high[0] - 1e-9

    options = ("--baseline", "base", "--widths", "1", "--class-picture", tmp_path / "classes.png")
    MetadataCatalog.get("some_test").stuff_classes = ["a", "b", "c"]
    DatasetCatalog.register("some_test", list)
    try:
        assert compare(folder, "--dataset", "some_test", *options)[0] == 0
        assert cv2.imread(str(tmp_path / "classes.png")) is not None
        drawn = []
        monkeypatch.setattr(compare.tool, "draw_class_gains", lambda *given: drawn.append(given) or given[-1].touch())
        assert compare(folder, "--dataset", "some_test", *options, "--block", "2")[0] == 0
        ((better, worse), classes, reference, _) = drawn[0]
        assert (classes, reference, worse["name"]) == (["a", "b", "c"], "base", "worse")
        assert better == class_gains("better", found["better"], found["base"], ["IoU", "BF@1px"], 2)
        del MetadataCatalog.get("some_test").stuff_classes
        MetadataCatalog.get("some_test").stuff_classes = ["a", "b"]
        code, _, error = compare(folder, "--dataset", "some_test", *options)
        assert code == 1 and "has counts of 3 classes, and some_test has 2" in error
    finally:
        DatasetCatalog.remove("some_test")
        MetadataCatalog.remove("some_test")
    code, _, error = compare(folder, "--dataset", "some_test", *options)
    assert code == 1 and "'some_test'" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dataset", "some_test", "--baseline", "bse"), "has no runs of 'bse'; it has base, better, worse"),
        (("--dataset", "other", "--baseline", "base"), "holds no METHOD/seed_N with counts of other"),
        (
            ("--dataset", "some_test", "--baseline", "base", "--widths", "1", "9"),
            r"counted at the widths \[9\]; all have",
        ),
    ],
)
def test_mistakes_are_named(runs, compare, options, message):
    code, _, error = compare(runs[0], *options)
    assert code == 1
    assert re.search(message, error)


def test_a_folder_without_runs_is_named(compare, tmp_path):
    code, _, error = compare(tmp_path, "--dataset", "some_test", "--baseline", "base")
    assert code == 1 and f"{tmp_path} holds no METHOD/seed_N with counts of some_test" in error
