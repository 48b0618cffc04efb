"""The prior shift against its formula, through the evaluator, the trainer's config and the tool."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_on_dataset

from epl_d2.data.class_pixels import class_pixels
from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.label_io import make_label_map
from epl_d2.data.shapes import write_shapes
from epl_d2.engine import Trainer, read_config
from epl_d2.evaluation import SemSegBoundaryEvaluator
from epl_d2.evaluation.prior_shift import prior_shift

ROOT = Path(__file__).parents[2]


def test_the_shift_is_the_formula():
    shift = prior_shift(np.array([60, 30, 10]), 0.5, "abc")
    assert shift.tolist() == pytest.approx([0.5 * math.log(share) for share in (0.6, 0.3, 0.1)])
    assert not prior_shift(np.array([60, 30, 10]), 0.0, "abc").any()
    with pytest.raises(ValueError, match="'bird', 'boat' never occurs"):
        prior_shift(np.array([1, 0, 0]), 0.5, ["sky", "bird", "boat"])


@pytest.fixture
def dataset(request, tmp_path):
    """A registered data set whose files hold 10, 20 and 30 for the classes 0, 1, 2, and other ids that are ignored."""
    records = []
    for index in range(3):
        label = np.random.default_rng(index).choice([10, 20, 30, 40], (20, 24), p=[0.6, 0.2, 0.1, 0.1])
        file = tmp_path / f"{index}_label.png"
        cv2.imwrite(str(file), label.astype(np.uint8))
        label_map = make_label_map({10: 0, 20: 1, 30: 2}, default=255)
        records.append({"file_name": f"{index}.png", "sem_seg_file_name": str(file), "label_map": label_map})
    name = f"prior_{request.node.name}"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(stuff_classes=["a", "b", "c"], ignore_label=255)
    yield name, records
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_pixels_are_counted_without_ignored_ones(dataset):
    name, records = dataset
    stored = np.stack([cv2.imread(record["sem_seg_file_name"], cv2.IMREAD_UNCHANGED) for record in records])
    expected = [int((stored == value).sum()) for value in (10, 20, 30)]
    assert class_pixels((name,), 3, 255).tolist() == expected
    assert class_pixels((name, name), 3, 255).tolist() == [2 * count for count in expected]
    with pytest.raises(ValueError, match=r"\d_label\.png: label ids \[2\], expected 0\.\.1 or 255"):
        class_pixels((name,), 2, 255)
    records[1].pop("sem_seg_file_name")
    with pytest.raises(ValueError, match=r"1\.png: there is no label map"):
        class_pixels((name,), 4, 255)


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_evaluator_takes_the_best_class_of_the_literal_formula(dataset, tmp_path, probabilities):
    name, records = dataset
    priors, tau = torch.tensor([0.7, 0.2, 0.1]), 0.6
    subject = SemSegBoundaryEvaluator(
        name,
        output_dir=str(tmp_path / "out"),
        save_predictions=True,
        class_offsets=[tau * math.log(prior) for prior in priors],
        probabilities=probabilities,
    )
    subject.reset()
    changed = 0
    for index, record in enumerate(records):
        logits = torch.randn(3, 20, 24, generator=torch.Generator().manual_seed(index))
        scores = logits.softmax(0) if probabilities else logits
        subject.process([record], [{"sem_seg": scores}])
        expected = (logits - tau * priors.log()[:, None, None]).argmax(0)
        changed += int((expected != logits.argmax(0)).sum())
        records[index]["expected"] = expected.numpy()
    subject.evaluate()
    for index, record in enumerate(records):
        saved = cv2.imread(str(tmp_path / "out" / "predictions" / f"{index}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(saved, record["expected"])
    assert changed > 100
    with pytest.raises(ValueError, match="class_offsets has 2 values for 3 classes"):
        SemSegBoundaryEvaluator(name, class_offsets=[0.0, 1.0])


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """Options for a small model on generated scenes."""
    write_shapes(str(tmp_path / "datasets" / "shapes"), train=4, val=3, size=(48, 48), seed=0)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    register_all_datasets()
    class_pixels.cache_clear()
    yield [
        *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "DATALOADER.NUM_WORKERS", 0, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 8),
        *("MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 8, "OUTPUT_DIR", str(tmp_path / "out")),
    ]
    monkeypatch.undo()
    register_all_datasets()
    class_pixels.cache_clear()


CONFIG = "configs/shapes/deeplab_v3_plus_mobilenet_v2.yaml"


def test_the_config_gives_the_evaluator_its_offsets(shapes):
    cfg = read_config(ROOT / CONFIG, [*shapes, "TEST.PRIOR_SHIFT", 0.3])
    name = cfg.DATASETS.TEST[0]
    pixels = class_pixels(tuple(cfg.DATASETS.TRAIN), 6, 255)
    evaluator = Trainer.build_evaluator(cfg, name)
    np.testing.assert_allclose(evaluator._class_offsets, 0.3 * np.log(pixels / pixels.sum()), rtol=1e-6)
    cfg.TEST.PRIOR_SHIFT = 0.0
    assert Trainer.build_evaluator(cfg, name)._class_offsets is None
    cfg.TEST.PRIOR_SHIFT = float("nan")
    with pytest.raises(ValueError, match="PRIOR_SHIFT is nan"):
        Trainer.build_evaluator(cfg, name)


def test_a_class_that_never_occurs_is_named(shapes, dataset):
    cfg = read_config(ROOT / CONFIG, [*shapes, "TEST.PRIOR_SHIFT", 0.3, "DATASETS.TRAIN", (dataset[0],)])
    with pytest.raises(ValueError, match=r"PRIOR_SHIFT 0\.3, DATASETS\.TRAIN \['prior_.*\]: .* never occurs"):
        Trainer.build_evaluator(cfg, cfg.DATASETS.TEST[0])


@pytest.mark.slow
def test_the_tool_finds_the_tau_of_separate_evaluations(shapes, tmp_path, monkeypatch, capsys):
    cfg = read_config(ROOT / CONFIG, [*shapes, "OUTPUT_DIR", ""])
    name, files = cfg.DATASETS.TEST[0], []
    expected = np.zeros((2, 3))
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    for seed in (0, 1):
        torch.nn.init.normal_(model.sem_seg_head.predictor.weight)
        DetectionCheckpointer(model, save_dir=str(tmp_path)).save(f"model_{seed}")
        files.append(str(tmp_path / f"model_{seed}.pth"))
        for column, tau in enumerate((0.0, 0.1, 0.3)):
            shifted = cfg.clone()
            shifted.TEST.PRIOR_SHIFT = tau
            evaluator, loader = Trainer.build_evaluator(shifted, name), Trainer.build_test_loader(cfg, name)
            expected[seed, column] = inference_on_dataset(model, loader, evaluator)["sem_seg"]["BF@3px"]
    assert len(np.unique(expected)) > 3

    spec = importlib.util.spec_from_file_location("find_prior_shift", ROOT / "tools" / "find_prior_shift.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    command = ["tool", "--config-file", str(ROOT / CONFIG), "--dataset", name, "--weights", *files]
    command += ["--taus", "0.3", "0", "0.1", "--output", str(tmp_path / "tau.json"), "--opts", *map(str, shapes)]
    monkeypatch.setattr(sys, "argv", command)
    assert tool.main() == 0
    record = json.loads((tmp_path / "tau.json").read_text())
    np.testing.assert_allclose(record["scores"]["BF@3px"], expected, rtol=1e-12)
    assert record["best"] == [0.0, 0.1, 0.3][expected.mean(axis=0).argmax()]
    assert f"| {record['best']:g} * |" in capsys.readouterr().out

    scores = np.full((2, 3, len(tool.METRICS)), 50.0)
    column = tool.METRICS.index("BF@3px")
    scores[:, 0, column] = np.nan  # undefined is not the best
    scores[:, 2, column] = 60
    monkeypatch.setattr(tool, "scores_at", lambda *given: scores)
    assert tool.main() == 0
    text = (tmp_path / "tau.json").read_text()
    assert json.loads(text)["best"] == 0.3 and "NaN" not in text
    assert [taus[0] for taus in json.loads(text)["scores"]["BF@3px"]] == [None, None]
    scores[:, :, column] = np.nan
    assert tool.main() == 1
    assert f"BF@3px is undefined on {name} at every tau" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["nan" if word == "0.3" else word for word in command])
    with pytest.raises(SystemExit):
        tool.main()
    assert "--taus must be finite numbers, got nan" in capsys.readouterr().err
