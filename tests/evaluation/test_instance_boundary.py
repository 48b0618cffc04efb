"""Boundary AP against a definition in loops, beside Detectron2's own numbers, from two processes; and bad files."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as mask_api
from scipy import ndimage

from epl_d2.data.mask_check import check_record_masks, mask_problem
from epl_d2.evaluation import InstanceBoundaryEvaluator
from epl_d2.evaluation.mask_scores import read_mask_scores

SIZE = (60, 80)
CLASSES = ["disk", "ring"]
THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = {"AP": (0, 1e10), "APs": (0, 32**2), "APm": (32**2, 96**2)}


def blob(rng: np.random.Generator) -> np.ndarray:
    row, column, radius = rng.uniform(8, 52), rng.uniform(8, 72), rng.uniform(4, 22)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    wobble = ndimage.gaussian_filter(rng.normal(size=SIZE), 3) * 60
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2 + wobble


def scene(seed: int) -> tuple[list[dict], list[dict]]:
    """Ground truth and predictions of a picture, as dicts with "mask", "class" and "crowd" or "score"."""
    rng = np.random.default_rng(seed)
    truth = [{"mask": blob(rng), "class": int(rng.integers(2)), "crowd": rng.random() < 0.15} for _ in range(5)]
    predictions = []
    for target in truth:
        for _ in range(int(rng.integers(0, 3))):
            mask = np.roll(target["mask"], rng.integers(-2, 3, 2), (0, 1))
            mask = ndimage.binary_dilation(mask) if rng.random() < 0.4 else mask
            label = target["class"] if rng.random() < 0.9 else 1 - target["class"]
            predictions.append({"mask": mask, "class": label, "score": float(rng.random())})
    predictions += [{"mask": blob(rng), "class": int(rng.integers(2)), "score": float(rng.random())} for _ in range(2)]
    return truth, [p for p in predictions if p["mask"].any()]


SCENES = [scene(seed) for seed in range(6)]


def rle(mask: np.ndarray) -> dict:
    encoded = mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def coco_file() -> dict:
    annotations = []
    for image_id, (truth, _) in enumerate(SCENES, start=1):
        for target in truth:
            segmentation = rle(target["mask"])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": (7, 3)[target["class"]],
                    "segmentation": segmentation,
                    "area": int(target["mask"].sum()),
                    "bbox": mask_api.toBbox(segmentation).tolist(),
                    "iscrowd": int(target["crowd"]),
                }
            )
    return {
        "images": [
            {"id": k + 1, "file_name": f"{k}.png", "height": SIZE[0], "width": SIZE[1]} for k in range(len(SCENES))
        ],
        "categories": [{"id": 7, "name": "disk"}, {"id": 3, "name": "ring"}],
        "annotations": annotations,
    }


@pytest.fixture
def register(request, tmp_path):
    """Registers a COCO file and returns its name."""
    name = f"instances_{request.node.name}"

    def make(content: dict) -> str:
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        register_coco_instances(
            name, {"thing_dataset_id_to_contiguous_id": {7: 0, 3: 1}, "thing_classes": CLASSES}, str(path), ""
        )
        return name

    yield make
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def batches() -> list[tuple[list, list]]:
    result = []
    for image_id, (_, predictions) in enumerate(SCENES, start=1):
        instances = Instances(SIZE)
        masks = torch.tensor(np.array([p["mask"] for p in predictions]))
        instances.pred_masks, instances.pred_boxes = masks, Boxes(torch.zeros(len(masks), 4))
        instances.scores = torch.tensor([p["score"] for p in predictions])
        instances.pred_classes = torch.tensor([p["class"] for p in predictions])
        result.append(([{"image_id": image_id}], [{"instances": instances}]))
    return result


def evaluate(evaluator, work=None):
    evaluator.reset()
    for inputs, outputs in batches() if work is None else work:
        evaluator.process(inputs, outputs)
    return evaluator.evaluate()


def iou(prediction: np.ndarray, target: np.ndarray, boundary: bool, crowd: bool) -> float:
    if crowd:
        return (prediction & target).sum() / prediction.sum()
    value = (prediction & target).sum() / (prediction | target).sum()
    if boundary:
        bands = []
        for mask in (prediction, target):
            depth = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
            bands.append(mask & (depth <= round(0.02 * np.hypot(*SIZE))))
        value = min(value, (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum())
    return value


def average_precision(label: int, threshold: float, area: tuple[float, float], boundary: bool) -> float | None:
    """COCO's AP of a class at a threshold, in loops; None where no object counts."""
    hits, objects = [], 0
    for truth, predictions in SCENES:
        targets = [t for t in truth if t["class"] == label]
        ignored = [t["crowd"] or not area[0] <= t["mask"].sum() <= area[1] for t in targets]
        objects += ignored.count(False)
        taken = set()
        for p in sorted((p for p in predictions if p["class"] == label), key=lambda p: -p["score"]):
            values = [iou(p["mask"], t["mask"], boundary, t["crowd"]) for t in targets]
            free = [k for k, v in enumerate(values) if v >= threshold and (k not in taken or targets[k]["crowd"])]
            # An object that counts goes before one that does not; of equals the later one, as in COCO's code.
            best = max(free, key=lambda k: (not ignored[k], values[k], k), default=None)
            if best is None:
                if area[0] <= p["mask"].sum() <= area[1]:
                    hits.append((p["score"], False))
                continue
            taken.add(best)
            if not ignored[best]:
                hits.append((p["score"], True))
    if objects == 0:
        return None
    correct = np.cumsum([hit for _, hit in sorted(hits, key=lambda hit: -hit[0])])
    precision = correct / np.arange(1, len(correct) + 1)
    recall = correct / objects
    return float(np.mean([max(precision[recall >= level], default=0.0) for level in np.linspace(0, 1, 101)]))


def mean_percent(values: list[float | None]) -> float:
    return 100 * np.mean([value for value in values if value is not None])


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, float]]:
    result = {}
    for kind, boundary in (("segm", False), ("boundary", True)):
        table = {
            (name, label): [average_precision(label, t, area, boundary) for t in THRESHOLDS]
            for name, area in AREAS.items()
            for label in (0, 1)
        }
        result[kind] = {name: mean_percent(table[name, 0] + table[name, 1]) for name in AREAS}
        result[kind] |= {f"AP-{name}": mean_percent(table["AP", label]) for label, name in enumerate(CLASSES)}
        result[kind]["AP50"] = mean_percent([table["AP", 0][0], table["AP", 1][0]])
        result[kind]["AP75"] = mean_percent([table["AP", 0][5], table["AP", 1][5]])
    return result


def test_boundary_ap_is_its_definition_and_mask_ap_detectron2s(register, expected, tmp_path):
    name = register(coco_file())
    results = evaluate(InstanceBoundaryEvaluator(name, output_dir=str(tmp_path / "out")))
    baseline = evaluate(COCOEvaluator(name))
    assert results["segm"] == pytest.approx(baseline["segm"], nan_ok=True)
    assert results["bbox"] == pytest.approx(baseline["bbox"], nan_ok=True)
    for kind, values in expected.items():
        for key, value in values.items():
            if kind == "boundary" or not key.startswith("AP-"):  # Detectron2's follow the order of the names
                assert results[kind][key] == pytest.approx(value, abs=1e-9), (kind, key)
    assert np.isnan(results["boundary"]["APl"])
    assert results["boundary"]["AP"] < results["segm"]["AP"] - 1  # the data do tell the two apart


def test_a_prediction_inside_a_crowd_is_passed_over_far_from_its_boundary(register, monkeypatch):
    crowd, inside, other = (np.zeros(SIZE, dtype=bool) for _ in range(3))
    crowd[:24, :24], inside[9:15, 9:15], other[30:36, 2:12] = True, True, True
    truth = [{"mask": crowd, "class": 0, "crowd": True}, {"mask": other, "class": 0, "crowd": False}]
    predictions = [{"mask": inside, "class": 0, "score": 0.9}, {"mask": other, "class": 0, "score": 0.5}]
    monkeypatch.setitem(globals(), "SCENES", [(truth, predictions)])
    results = evaluate(InstanceBoundaryEvaluator(register(coco_file())))
    assert results["segm"]["AP"] == results["boundary"]["AP"] == pytest.approx(100)


def test_wider_boundaries_come_near_the_mask_ap(register):
    name = register(coco_file())
    narrow, wide = (evaluate(InstanceBoundaryEvaluator(name, dilation_ratio=ratio)) for ratio in (0.01, 1.0))
    assert narrow["boundary"]["AP"] < wide["boundary"]["AP"] == pytest.approx(wide["segm"]["AP"])


def test_no_prediction_gives_nan(register):
    nothing = Instances(SIZE, pred_boxes=Boxes(torch.zeros(0, 4)), pred_masks=torch.zeros(0, *SIZE))
    nothing.scores, nothing.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.long)
    results = evaluate(
        InstanceBoundaryEvaluator(register(coco_file())), [([{"image_id": 1}], [{"instances": nothing}])]
    )
    assert set(results["boundary"]) >= {"AP", "AP50", "AP75", "APs", "APm", "APl"}
    assert all(np.isnan(value) for value in results["boundary"].values())


def test_data_sets_without_a_coco_file_are_converted(tmp_path, expected):
    """As those of Cityscapes: images have names, categories are the classes themselves."""
    records = []
    for number, (truth, _) in enumerate(SCENES):
        annotations = [
            {
                "category_id": target["class"],
                "segmentation": rle(target["mask"]),
                "bbox": mask_api.toBbox(rle(target["mask"])).tolist(),
                "bbox_mode": BoxMode.XYWH_ABS,
                "iscrowd": int(target["crowd"]),
            }
            for target in truth
        ]
        frame = f"frame_{number}.png"
        records.append(
            {"file_name": frame, "image_id": frame, "height": SIZE[0], "width": SIZE[1], "annotations": annotations}
        )
    name = f"frames_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=CLASSES, evaluator_type="cityscapes_instance")
    work = [([{"image_id": f"frame_{number}.png"}], outputs) for number, (_, outputs) in enumerate(batches())]
    try:
        results = evaluate(InstanceBoundaryEvaluator(name, output_dir=str(tmp_path)), work)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    for key in ("AP", "AP50", "AP-disk", "AP-ring"):
        assert results["boundary"][key] == pytest.approx(expected["boundary"][key], abs=1e-9), key
    assert read_mask_scores(tmp_path / "mask_scores.json")["boundary/AP"] == results["boundary"]["AP"]


def test_the_predictions_of_all_processes_count(register, monkeypatch):
    """Training in two processes: tests/engine/test_train_masks.py."""
    name = register(coco_file())
    alone = evaluate(InstanceBoundaryEvaluator(name))
    shares = []
    monkeypatch.setattr(
        coco_evaluation.comm, "gather", lambda share, dst: shares.append(deepcopy(share)) or deepcopy(shares)
    )
    evaluate(InstanceBoundaryEvaluator(name), batches()[::2])
    together = evaluate(InstanceBoundaryEvaluator(name), batches()[1::2])
    assert together["boundary"] == pytest.approx(alone["boundary"], nan_ok=True)


def changed(**values) -> dict:
    content = coco_file()
    content["annotations"][3] |= values
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(segmentation=[]), "annotation 4 of image 0.png: it has no segmentation"),
        (changed(segmentation=rle(np.ones((60, 70)))), r"its RLE is 60 x 70, but the image is 60 x 80"),
        (changed(segmentation={"size": [60, 80], "counts": [10, 20]}), "its RLE counts 30 pixels, .* has 4800"),
        (changed(segmentation=rle(np.eye(60, 80)) | {"counts": rle(np.eye(60, 80))["counts"][:-2]}), "its RLE counts "),
        (changed(segmentation={"counts": "abc"}), r"its RLE has the keys \['counts'\]"),
        (changed(segmentation=[[1, 2, 3, 4]]), "its polygon .1, 2, 3, 4. is none"),
        (changed(segmentation="abc"), "its segmentation is a str"),
        (changed(image_id=99), "annotation 4 is of image 99, which the file lacks"),
    ],
)
def test_files_whose_masks_do_not_fit_are_named(register, content, message):
    with pytest.raises(ValueError, match=f"instances.json: .*{message}"):
        InstanceBoundaryEvaluator(register(content))


@pytest.mark.parametrize("seed", range(40))
def test_masks_that_fit_are_no_problem(seed):
    generator = np.random.default_rng(seed)
    height, width, scale = generator.integers(1, 40, 3)
    mask = np.kron(generator.random((height, width)) < generator.random(), np.ones((scale, 3), bool))
    assert mask_problem(rle(mask), *mask.shape) is None
    longer = {**rle(mask), "counts": rle(mask)["counts"] + "1"}
    assert f"pixels, but the image has {mask.size}" in mask_problem(longer, *mask.shape)


def test_a_ratio_beyond_the_diagonal_and_predictions_without_masks_are_refused(register):
    name = register(coco_file())
    with pytest.raises(ValueError, match="dilation_ratio is 2"):
        InstanceBoundaryEvaluator(name, dilation_ratio=2)
    work = batches()
    for _, outputs in work:
        outputs[0]["instances"].remove("pred_masks")
    with pytest.raises(ValueError, match="have no masks"):
        evaluate(InstanceBoundaryEvaluator(name), work)


def test_records_for_training_are_checked_as_well():
    record = {"file_name": "a.png", "height": 60, "width": 80, "annotations": [{"segmentation": rle(np.ones(SIZE))}]}
    check_record_masks([record], "mine")
    with pytest.raises(ValueError, match=r"mine: object 0 of a.png: it has no segmentation"):
        check_record_masks([{**record, "annotations": [{"bbox": [0, 0, 1, 1]}]}], "mine")
    with pytest.raises(ValueError, match=r"mine: object 0 of a.png: its RLE is 60 x 80, but the image is 60 x 90"):
        check_record_masks([{**record, "width": 90}], "mine")
    with pytest.raises(ValueError, match="mine: no image has an object"):
        check_record_masks([{**record, "annotations": []}], "mine")
