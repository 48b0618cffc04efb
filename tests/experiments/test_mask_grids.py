"""Grids of models that find masks: the shipped one can run, and results come from scores and seeds."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from epl_d2.evaluation.mask_scores import read_mask_scores, write_mask_scores
from epl_d2.experiments.grid import read_grid
from epl_d2.experiments.plan import plan_runs
from epl_d2.experiments.results import write_results
from epl_d2.experiments.scores import read_run_scores

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "configs" / "grids" / "shapes_masks_cpu.yaml"
# method -> boundary AP and mask AP of the seeds
SCORES = {
    "cross_entropy": {1: (10.0, 20.0), 2: (12.0, 21.0), 3: (11.0, 19.0)},
    "epl_2": {1: (12.0, 20.5), 2: (15.0, 20.0)},
}


def test_the_shipped_grid_checks_its_data_and_losses(shapes_with_instances, tmp_path):
    shapes_with_instances(train=2, val=1, size=(32, 32))
    grid = read_grid(SHIPPED)
    runs = plan_runs(grid, tmp_path, ROOT)
    assert [run.name for run in runs[:3]] == ["cross_entropy/seed_1", "epl_0.5/seed_1", "epl_2/seed_1"]
    assert len(runs) == 9
    with pytest.raises(ValueError, match=r"'epl_0.5' cannot be built: MODEL\.EPL\.MASK\.LINE\.WEIGHT must be"):
        plan_runs(grid.with_overrides(["MODEL.EPL.MASK.LINE.WEIGHT", "-1.0"]), tmp_path, ROOT)
    with pytest.raises(ValueError, match=r"ROI_HEADS.NUM_CLASSES is 7, but shapes_instance_train has 4"):
        plan_runs(grid.with_overrides(["MODEL.ROI_HEADS.NUM_CLASSES", "7"]), tmp_path, ROOT)


def test_scores_of_masks_are_kept_and_read(tmp_path):
    results = {"segm": {"AP": 12.5, "APl": float("nan")}, "boundary": {"AP": 3.25}}
    file = write_mask_scores(tmp_path / "new", results)
    assert read_mask_scores(file) == {"segm/AP": 12.5, "segm/APl": None, "boundary/AP": 3.25}
    assert read_run_scores(tmp_path / "new") == read_mask_scores(file)
    with pytest.raises(ValueError, match="was the model evaluated"):
        read_run_scores(tmp_path)
    with pytest.raises(ValueError, match="were masks evaluated"):
        read_mask_scores(tmp_path / "none.json")
    file.write_text("[1]")
    with pytest.raises(ValueError, match="expected names and numbers"):
        read_mask_scores(file)


def test_results_are_means_and_paired_differences_over_seeds(tmp_path):
    for method, seeds in SCORES.items():
        for seed, (boundary, mask) in seeds.items():
            folder = tmp_path / method / f"seed_{seed}"
            folder.mkdir(parents=True)
            record = {
                **{"method": method, "seed": seed, "commits": ["abc"], "dirty": False, "config_hash": "h"},
                **{
                    "device": "d",
                    "minutes": 1.0,
                    "threads": 1,
                    "attempts": 1,
                    "evaluate": {"val": "shapes_instance_val"},
                },
                "metrics": {"val": {"boundary/AP": boundary, "segm/AP": mask, "segm/APl": None}},
            }
            (folder / "run.json").write_text(json.dumps(record))
    files = write_results(read_grid(SHIPPED), tmp_path / "out", tmp_path, "abc")
    assert [file.name for file in files] == ["results.csv", "results.md"]
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| method | seeds | mask AP | boundary AP |" in text
    half = stats.t.ppf(0.975, 2) * np.std([10, 12, 11], ddof=1) / np.sqrt(3)
    assert f"| 11.00 ± {half:.2f} |" in text
    half = stats.t.ppf(0.975, 1) * np.std([2, 3], ddof=1) / np.sqrt(2)  # of the seeds that both have
    assert f"| epl_2 | 2 | -0.25 [-9.78, +9.28] | +2.50 [{2.5 - half:+.2f}, {2.5 + half:+.2f}] |" in text
    assert "| epl_2, seed 2 |  | -1.00 | +3.00 |" in text and "95% interval of t over the seeds" in text
    header, first = ((tmp_path / "out" / "results.csv").read_text().splitlines()[i] for i in (0, 1))
    columns = dict(zip(header.split(","), first.split(","), strict=True))
    assert (columns["val/segm/AP"], columns["val/boundary/AP"], columns["val/segm/APl"]) == ("20.0000", "10.0000", "")
    assert "Not finished: cross_entropy" not in text and "epl_2/seed_3" in text
