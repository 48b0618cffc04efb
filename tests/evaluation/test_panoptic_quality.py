"""PQ and boundary PQ against their definitions in loops, the evaluator beside its parts, and bad input."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image
from scipy import ndimage

from epl_d2.evaluation import PanopticBoundaryEvaluator, PanopticStatistics, panoptic_evaluator

from .conftest import blobs, perturbed

CATEGORIES = {1: True, 2: True, 5: False, 9: False}  # id -> thing
SIZE = (60, 90)


def scene(seed: int) -> tuple[np.ndarray, list[dict], np.ndarray, list[dict]]:
    """A prediction and a target of up to 9 segments; 0 is void, and some target segments are crowds."""
    rng = np.random.default_rng(seed)
    target = blobs(rng, *SIZE, 9, smoothness=5).astype(np.int32)
    moved = perturbed(rng, target.astype(np.uint8), 9).astype(np.int32)
    prediction = np.where(moved > 0, moved * 1000 + 70000, 0)  # ids of more than 16 bits
    kinds = rng.integers(0, 4, 9)
    segments = [
        {"id": k, "category_id": int([*CATEGORIES][kinds[k]]), "iscrowd": int(kinds[k] < 2 and rng.random() < 0.2)}
        for k in range(1, 9)
    ]
    predicted = [
        {
            "id": 1000 * k + 70000,
            "category_id": int([*CATEGORIES][kinds[k] if rng.random() < 0.85 else (kinds[k] + 1) % 4]),
        }
        for k in range(1, 9)
        if (moved == k).any()
    ]
    return prediction, predicted, target, segments


SCENES = [scene(seed) for seed in range(8)]


def band(mask: np.ndarray) -> np.ndarray:
    depth = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    return mask & (depth <= max(1, round(0.02 * np.hypot(*SIZE))))


def definition(boundary: bool) -> dict[str, float]:
    """PQ of Kirillov et al., segment by segment."""
    totals = {category: [0.0, 0, 0, 0] for category in CATEGORIES}
    for prediction, predicted, target, segments in SCENES:
        matched_predictions, matched_targets = set(), set()
        for t in segments:
            for p in predicted:
                if t["iscrowd"] or t["category_id"] != p["category_id"]:
                    continue
                a, b = prediction == p["id"], target == t["id"]
                pairs = [(a, b), (band(a), band(b))] if boundary else [(a, b)]
                # What is void in the target is in no union.
                iou = min((x & y).sum() / ((x & (target != 0)) | y).sum() if y.any() else 0.0 for x, y in pairs)
                if iou > 0.5:
                    matched_predictions.add(p["id"])
                    matched_targets.add(t["id"])
                    totals[t["category_id"]][0] += iou
                    totals[t["category_id"]][1] += 1
        for t in segments:
            totals[t["category_id"]][3] += t["id"] not in matched_targets and not t["iscrowd"]
        for p in predicted:
            crowd = [t["id"] for t in segments if t["iscrowd"] and t["category_id"] == p["category_id"]]
            mask = prediction == p["id"]
            ignored = np.isin(target[mask], [0, *crowd]).mean()
            totals[p["category_id"]][2] += p["id"] not in matched_predictions and ignored <= 0.5
    result = {}
    for suffix, wanted in (("", (True, False)), ("_th", (True,)), ("_st", (False,))):
        rows = [totals[c] for c, thing in CATEGORIES.items() if thing in wanted and any(totals[c][1:])]
        result[f"PQ{suffix}"] = np.mean([iou / (tp + fp / 2 + fn / 2) for iou, tp, fp, fn in rows])
        result[f"SQ{suffix}"] = np.mean([iou / tp if tp else 0 for iou, tp, fp, fn in rows])
        result[f"RQ{suffix}"] = np.mean([tp / (tp + fp / 2 + fn / 2) for iou, tp, fp, fn in rows])
    return result


@pytest.fixture(scope="module")
def expected() -> dict[str, float]:
    return definition(False) | {f"boundary_{name}": value for name, value in definition(True).items()}


def test_scores_are_their_definition(expected):
    statistics = PanopticStatistics(CATEGORIES)
    for images in SCENES:
        statistics.update(*images)
    assert statistics.compute() == pytest.approx(expected, abs=1e-12)
    assert expected["boundary_PQ"] < expected["PQ"] - 0.02 and 0.2 < expected["PQ"] < 0.95


def test_statistics_of_parts_add_up(expected):
    parts = [PanopticStatistics(CATEGORIES) for _ in range(3)]
    for index, images in enumerate(SCENES):
        parts[index % 3].update(*images)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    assert parts[0].compute() == pytest.approx(expected, abs=1e-12) and parts[0].num_images == len(SCENES)


def test_a_perfect_prediction_is_one_and_none_at_all_nan():
    statistics = PanopticStatistics(CATEGORIES)
    assert all(np.isnan(value) for value in statistics.compute().values())
    target = SCENES[0][2]
    segments = [{**segment, "iscrowd": 0} for segment in SCENES[0][3]]
    statistics.update(target, segments, target, segments)
    assert statistics.compute() == pytest.approx(dict.fromkeys(statistics.compute(), 1.0))


@pytest.fixture
def dataset(tmp_path):
    """Panoptic files of the target scenes, and the batches of a model that predicts the scenes."""
    annotations, batches = [], []
    contiguous = {1: 0, 2: 1}, {5: 1, 9: 2}
    for index, (prediction, predicted, target, segments) in enumerate(SCENES):
        pixels = np.stack([target % 256, target // 256 % 256, target // 256**2], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        annotations.append({"image_id": index, "file_name": f"{index}.png", "segments_info": segments})
        outputs = [
            {
                "id": segment["id"],
                "isthing": CATEGORIES[segment["category_id"]],
                "category_id": {**contiguous[0], **contiguous[1]}[segment["category_id"]],
            }
            for segment in predicted
        ]
        inputs = [{"image_id": index, "file_name": f"{index}.jpg"}]
        batches.append((inputs, [{"panoptic_seg": (torch.from_numpy(prediction), outputs)}]))
    categories = [{"id": id, "isthing": int(thing)} for id, thing in CATEGORIES.items()]
    file = tmp_path / "panoptic.json"
    file.write_text(json.dumps({"categories": categories, "annotations": annotations}))
    name = f"panoptic_{tmp_path.name}"
    MetadataCatalog.get(name).set(
        panoptic_json=str(file),
        panoptic_root=str(tmp_path),
        thing_dataset_id_to_contiguous_id=contiguous[0],
        stuff_dataset_id_to_contiguous_id=contiguous[1],
    )
    yield name, batches, file
    MetadataCatalog.remove(name)


def test_the_evaluator_gives_the_scores_in_percent(dataset, expected):
    name, batches, _ = dataset
    evaluator = PanopticBoundaryEvaluator(name)
    for _ in range(2):  # reset() forgets
        evaluator.reset()
        for inputs, outputs in batches:
            evaluator.process(inputs, outputs)
    scores = evaluator.evaluate()["panoptic_seg"]
    assert scores == pytest.approx({key: 100 * value for key, value in expected.items()})


def test_the_counts_of_all_processes_add_up(dataset, expected, monkeypatch):
    name, batches, _ = dataset
    evaluators = [PanopticBoundaryEvaluator(name) for _ in range(2)]
    for rank, evaluator in enumerate(evaluators):
        for inputs, outputs in batches[rank::2]:
            evaluator.process(inputs, outputs)
    gathered = [evaluator._statistics for evaluator in evaluators]
    monkeypatch.setattr(panoptic_evaluator.comm, "gather", lambda _: gathered)
    scores = evaluators[0].evaluate()["panoptic_seg"]
    assert scores == pytest.approx({key: 100 * value for key, value in expected.items()})
    monkeypatch.setattr(panoptic_evaluator.comm, "is_main_process", lambda: False)
    assert evaluators[1].evaluate() is None


def test_bad_input_is_named(dataset):
    name, batches, file = dataset
    evaluator = PanopticBoundaryEvaluator(name)
    evaluator.reset()
    (inputs, outputs) = deepcopy(batches[0])
    with pytest.raises(ValueError, match="no annotation of the image 77"):
        evaluator.process([{"image_id": 77, "file_name": "x.jpg"}], outputs)
    ids, segments = outputs[0]["panoptic_seg"]
    with pytest.raises(ValueError, match=r"0.png: the prediction is 60 x 80, the target 60 x 90 .*0.jpg"):
        evaluator.process(inputs, [{"panoptic_seg": (ids[:, :80], segments)}])
    with pytest.raises(ValueError, match="no list of segments"):
        evaluator.process(inputs, [{"panoptic_seg": (ids, None)}])
    with pytest.raises(ValueError, match="pixels of segment 123, which its list"):
        evaluator.process(inputs, [{"panoptic_seg": (torch.full_like(ids, 123), segments)}])
    with pytest.raises(ValueError, match="segment 1 of the prediction has the unknown category 4"):
        PanopticStatistics(CATEGORIES).update(ids.numpy(), [{"id": 1, "category_id": 4}], SCENES[0][2], SCENES[0][3])
    unknown = [{**segments[0], "category_id": 7}, *segments[1:]]
    with pytest.raises(ValueError, match=r"0.jpg: the prediction has a segment of the category 7, which is none of"):
        evaluator.process(inputs, [{"panoptic_seg": (ids, unknown)}])
    for content, message in (
        ("{}", r"no panoptic annotations of COCO's format \('categories' is missing\)"),
        ("[]", r"no panoptic annotations of COCO's format \(list indices must be"),
        ("{", "no valid JSON"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=f"panoptic.json: {message}"):
            PanopticBoundaryEvaluator(name)


def test_only_what_was_counted_alike_is_merged():
    for other, what in (
        (PanopticStatistics({**CATEGORIES, 77: True}), "categories"),
        (PanopticStatistics(CATEGORIES, 0.5), "dilation_ratio 0.5 into those of 0.02"),
    ):
        statistics = PanopticStatistics(CATEGORIES)
        other.num_images = 3
        with pytest.raises(ValueError, match=f"cannot merge statistics of {what}"):
            statistics.merge(other)
        assert statistics.num_images == 0


@pytest.mark.parametrize("ratio", [-1, 0, 5, True, "0.02"])
def test_the_width_is_a_part_of_the_diagonal(ratio):
    with pytest.raises(ValueError, match=f"dilation_ratio is {ratio!r}, expected"):
        PanopticStatistics(CATEGORIES, ratio)
