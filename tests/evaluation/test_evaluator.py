"""The Detectron2 evaluator against its parts, against Detectron2's own, and in two processes."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import launch
from detectron2.evaluation import SemSegEvaluator, inference_on_dataset, print_csv_format
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from PIL import Image

from epl_d2.evaluation import BoundaryStatistics, SemSegBoundaryEvaluator, evaluator
from epl_d2.evaluation.report import flat_scores

CLASSES = ["sky", "tree", "car", "bird", "boat", "road"]


def one_hot(prediction: np.ndarray) -> torch.Tensor:
    scores = torch.nn.functional.one_hot(torch.from_numpy(prediction).long(), len(CLASSES))
    return scores.permute(2, 0, 1).float()


@pytest.fixture
def dataset(request, tmp_path, all_pairs):
    """A registered data set of label files: its name, and the batches that a model would be evaluated on."""
    records, batches = [], []
    for index, (prediction, target) in enumerate(all_pairs):
        label_file = tmp_path / f"label_{index}.png"
        cv2.imwrite(str(label_file), target)
        image = str(tmp_path / f"image_{index}.jpg")
        records.append({"file_name": image, "sem_seg_file_name": str(label_file)})
        batches.append(([{"file_name": image}], [{"sem_seg": one_hot(prediction)}]))
    name = f"boundary_{request.node.name}"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(stuff_classes=CLASSES, ignore_label=255)
    yield name, batches
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def exactly(results) -> str:
    """A text that is equal for results that are equal to the last bit, NaN included."""
    return json.dumps(results)


def evaluate(subject, batches):
    subject.reset()
    for inputs, outputs in batches:
        subject.process(inputs, outputs)
    return subject.evaluate()


def test_results_are_those_of_the_statistics(dataset, all_pairs):
    name, batches = dataset
    results = evaluate(SemSegBoundaryEvaluator(name, report_widths=[2, 5], num_workers=3), batches)
    statistics = BoundaryStatistics(6, range(1, 21))
    for pair in all_pairs:
        statistics.update(*pair)
    assert isinstance(results, OrderedDict)
    assert exactly(results) == exactly({"sem_seg": flat_scores(statistics, CLASSES, [2, 5])})
    scores = statistics.compute()
    assert results["sem_seg"]["BF@5px"] == 100 * scores["boundary_f"][4]
    assert results["sem_seg"]["BF-davis@2px"] == 100 * scores["boundary_f_davis"][1]
    assert results["sem_seg"]["Trimap-mIoU@2px"] == 100 * scores["trimap_miou"][1]
    assert results["sem_seg"]["Boundary-IoU@5px"] == 100 * scores["boundary_iou"][4]
    assert results["sem_seg"]["BF-bird@2px"] == 100 * scores["boundary_f_per_class"][3, 1]
    assert all(type(value) is float for value in flatten_results_dict(results).values())
    print_csv_format(results)


def test_region_scores_are_those_of_detectron2(dataset):
    name, batches = dataset
    ours = evaluate(SemSegBoundaryEvaluator(name), batches)["sem_seg"]
    # Detectron2's own way to read labels needs NumPy 1.
    theirs = SemSegEvaluator(name, sem_seg_loading_fn=lambda path, dtype: np.asarray(Image.open(path), dtype))
    theirs = evaluate(theirs, batches)["sem_seg"]
    keys = [
        "mIoU",
        "fwIoU",
        "mACC",
        "pACC",
        *(f"{kind}-{label}" for kind in ("IoU", "ACC") for label in CLASSES),
    ]
    np.testing.assert_allclose([ours[key] for key in keys], [theirs[key] for key in keys], rtol=1e-12)


def test_through_inference_on_dataset_twice(dataset):
    name, batches = dataset
    outputs = iter([*batches, *batches])
    loader = [inputs for inputs, _ in batches]
    subject = SemSegBoundaryEvaluator(name, widths=[1, 3], report_widths=[3])
    first = inference_on_dataset(lambda inputs: next(outputs)[1], loader, subject)
    second = inference_on_dataset(lambda inputs: next(outputs)[1], loader, subject)
    assert exactly(first) == exactly(second) == exactly(evaluate(subject, batches))


def test_files(dataset, tmp_path, all_pairs):
    name, batches = dataset
    folder = tmp_path / "inference"
    subject = SemSegBoundaryEvaluator(name, output_dir=str(folder), report_widths=[1, 3], save_predictions=True)
    results = evaluate(subject, batches)["sem_seg"]
    record = json.loads((folder / "boundary_curves.json").read_text())
    assert record["widths"] == list(range(1, 21)) and record["classes"] == CLASSES
    assert record["BF"][2] == results["BF@3px"] and record["mIoU"] == results["mIoU"]
    assert record["per_class"]["BF"][3][0] == results["BF-bird@1px"]
    with (folder / "boundary_curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["width"] for row in rows] == [str(width) for width in range(1, 21)]
    assert rows[2]["Trimap-mIoU"] == f"{results['Trimap-mIoU@3px']:.2f}"
    with (folder / "boundary_classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [*CLASSES, "mean"]
    assert rows[2]["BF@3px"] == f"{results['BF-car@3px']:.2f}" and rows[5]["IoU"] == "-"
    picture = cv2.imread(str(folder / "boundary_curves.png"))
    assert picture is not None and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    names = {f"image_{index}.png" for index in range(len(all_pairs))}
    assert {path.name for path in (folder / "predictions").iterdir()} == names
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == set()
    for index, (prediction, _) in enumerate(all_pairs):
        saved = cv2.imread(str(folder / "predictions" / f"image_{index}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(saved, prediction)


def test_ground_truth_from_the_sample_and_label_map(tmp_path):
    """Label ids on disk, a table in the metadata, and a sample that names its own label file."""
    label_file = str(tmp_path / "labels.png")
    cv2.imwrite(label_file, np.repeat(np.uint8([[7, 7, 0, 33, 33, 33]]), 8, axis=0))
    table = np.full(256, 255, np.uint8)
    table[[7, 33]] = 0, 1
    metadata = MetadataCatalog.get("boundary_label_map")
    metadata.set(stuff_classes=["a", "b"], label_map=table)
    try:
        prediction = torch.zeros(2, 8, 6)
        prediction[1, :, 3:] = 1
        batch = [{"file_name": "x.jpg", "sem_seg_file_name": label_file}], [{"sem_seg": prediction}]
        results = evaluate(SemSegBoundaryEvaluator("boundary_label_map"), [batch])["sem_seg"]
    finally:
        MetadataCatalog.remove("boundary_label_map")
    assert results["IoU-a"] == results["IoU-b"] == results["pACC"] == 100.0


def test_other_size_names_files_and_sizes(dataset):
    name, batches = dataset
    inputs = batches[0][0]
    subject = SemSegBoundaryEvaluator(name)
    with pytest.raises(ValueError, match=r"label_0.png: the label is 70 x 90, but .*image_0.jpg is 4 x 5") as caught:
        evaluate(subject, [(inputs, [{"sem_seg": torch.zeros(6, 4, 5)}])])
    assert inputs[0]["file_name"] in str(caught.value)


def test_error_of_a_worker_stops_the_next_batches(dataset, tmp_path):
    name, batches = dataset
    (tmp_path / "label_1.png").write_bytes(b"no picture")
    subject = SemSegBoundaryEvaluator(name, num_workers=1)
    subject.reset()
    with pytest.raises(ValueError, match="label_1"):
        for inputs, outputs in batches[:6]:
            subject.process(inputs, outputs)
    assert len(evaluate(subject, batches[2:4])["sem_seg"]) > 10  # usable again after reset()


def test_bad_ids_name_the_file(dataset, tmp_path):
    name, batches = dataset
    cv2.imwrite(str(tmp_path / "label_0.png"), np.full((70, 90), 77, np.uint8))
    with pytest.raises(ValueError, match=r"label_0.png: target holds ids outside the classes: 77.*image_0.jpg"):
        evaluate(SemSegBoundaryEvaluator(name), batches[:1])


def test_wrong_number_of_channels(dataset):
    name, batches = dataset
    with pytest.raises(ValueError, match=r"image_0.jpg.*6 classes.*got \[7, 70, 90\]"):
        evaluate(SemSegBoundaryEvaluator(name), [(batches[0][0], [{"sem_seg": torch.zeros(7, 70, 90)}])])


def test_scores_that_are_nan_are_no_class(dataset):
    name, batches = dataset
    inputs, outputs = batches[0]
    outputs = [{"sem_seg": output["sem_seg"].clone()} for output in outputs]
    outputs[0]["sem_seg"][3, 5, 7] = torch.nan
    with pytest.raises(ValueError, match=r"image_0.jpg: the scores of the prediction are NaN"):
        evaluate(SemSegBoundaryEvaluator(name), [(inputs, outputs)])


def test_image_without_label(dataset):
    name, batches = dataset
    with pytest.raises(ValueError, match=r"other.jpg: 'boundary_.*' has no label file"):
        evaluate(SemSegBoundaryEvaluator(name), [([{"file_name": "other.jpg"}], batches[0][1])])


def test_cityscapes_test_frames_are_saved_for_submission(tmp_path):
    """No labels, so nothing to score; the server wants label ids under the frames' names."""
    frame = str(tmp_path / "berlin" / "berlin_000000_000019_leftImg8bit.png")
    name, label_ids = "boundary_without_labels", (7, 8, 11, 12, 13, 17)
    DatasetCatalog.register(name, lambda: [{"file_name": frame}])
    MetadataCatalog.get(name).set(stuff_classes=CLASSES, ignore_label=255, train_id_to_label_id=label_ids)
    prediction = np.arange(6, dtype=np.uint8).reshape(2, 3)
    batches = [([{"file_name": frame}], [{"sem_seg": one_hot(prediction)}])]
    subject = SemSegBoundaryEvaluator(name, output_dir=str(tmp_path), save_predictions=True)
    results = evaluate(subject, batches)
    assert np.isnan(results["sem_seg"]["mIoU"])
    saved = cv2.imread(str(tmp_path / "submission" / "berlin_000000_000019_pred_labelIds.png"), cv2.IMREAD_UNCHANGED)
    assert saved.tolist() == [[7, 8, 11], [12, 13, 17]]
    kept = cv2.imread(str(tmp_path / "predictions" / "berlin_000000_000019_leftImg8bit.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(kept, prediction)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_predictions_keep_the_subfolders_of_the_images(tmp_path):
    name, files = (
        "boundary_of_two_days",
        [str(tmp_path / "photos" / day / "1_image.jpg") for day in ("monday", "sunday")],
    )
    DatasetCatalog.register(name, lambda: [{"file_name": file} for file in files])
    MetadataCatalog.get(name).set(stuff_classes=CLASSES, ignore_label=255, image_root=str(tmp_path / "photos"))
    subject = SemSegBoundaryEvaluator(name, output_dir=str(tmp_path), save_predictions=True)
    maps = [np.full((2, 3), value, np.uint8) for value in (1, 2)]
    evaluate(subject, [([{"file_name": f}], [{"sem_seg": one_hot(m)}]) for f, m in zip(files, maps, strict=True)])
    for day, expected in zip(("monday", "sunday"), maps, strict=True):
        saved = cv2.imread(str(tmp_path / "predictions" / day / "1_image.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(saved, expected)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_two_images_of_one_name_are_not_overwritten(dataset, tmp_path):
    name, batches = dataset
    subject = SemSegBoundaryEvaluator(name, output_dir=str(tmp_path / "out"), save_predictions=True)
    with pytest.raises(ValueError, match="another image is also called image_0"):
        evaluate(subject, [batches[0], batches[0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"report_widths": [30]}, r"report_widths \[30\] are not among"),
        ({"widths": [0, 1]}, "widths must be positive integers"),
        ({"num_classes": 4}, "num_classes is 4, but .* has 6"),
        ({"save_predictions": True}, "needs an output_dir"),
        ({"num_workers": 0}, "num_workers must be at least 1, got 0"),
        ({"ignore_mode": "none"}, "ignore_mode must be one of"),
        ({"ignore_distance": 0}, "ignore_distance must be a positive integer"),
    ],
)
def test_bad_arguments(dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        SemSegBoundaryEvaluator(dataset[0], **arguments)


def test_metadata_without_classes():
    with pytest.raises(ValueError, match="has no stuff_classes"):
        SemSegBoundaryEvaluator("boundary_unknown_name")


def test_process_overlaps_and_memory_is_bounded(dataset, monkeypatch):
    """process() returns before a slow count is over, and waits rather than let label maps pile up."""
    name, batches = dataset
    release, waiting = threading.Event(), []

    def read_slowly(*args, **maps):
        release.wait()
        return np.zeros((70, 90), np.uint8)

    monkeypatch.setattr(evaluator, "read_label", read_slowly)
    subject = SemSegBoundaryEvaluator(name, num_workers=2)
    subject.reset()

    def feed() -> None:
        for _ in range(20):
            subject.process(*batches[0])
            waiting.append(len(subject._pending))

    thread = threading.Thread(target=feed)
    thread.start()
    deadline = time.monotonic() + 20
    while len(waiting) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert 3 <= len(waiting) < 10
    release.set()
    thread.join()
    assert max(waiting) <= 4
    assert subject.evaluate()["sem_seg"]["pACC"] > 0


def test_no_image_is_undefined(dataset, tmp_path):
    results = evaluate(SemSegBoundaryEvaluator(dataset[0], output_dir=str(tmp_path / "out")), [])["sem_seg"]
    assert all(np.isnan(value) for value in results.values())
    assert json.loads((tmp_path / "out" / "boundary_curves.json").read_text())["BF"] == [None] * 20


def _evaluate_shares(folder: str) -> None:
    """Runs in each of two processes: with uneven shares of the pictures, then with all in the first."""
    pairs = np.load(Path(folder, "predictions.npy"), allow_pickle=True)
    MetadataCatalog.get("boundary_shares").set(stuff_classes=CLASSES, ignore_label=255)
    for cut in (5, len(pairs)):
        batches = []
        for index in range(cut) if comm.get_rank() == 0 else range(cut, len(pairs)):
            sample = {
                "file_name": f"{index}.jpg",
                "sem_seg_file_name": str(Path(folder, f"label_{index}.png")),
            }
            batches.append(([sample], [{"sem_seg": one_hot(pairs[index])}]))
        results = evaluate(SemSegBoundaryEvaluator("boundary_shares", output_dir=folder), batches)
        if comm.is_main_process():
            Path(folder, f"results_{cut}.json").write_text(exactly(results))
        else:
            assert results is None
    comm.synchronize()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_identical_numbers(dataset, tmp_path, all_pairs):
    name, batches = dataset
    expected = exactly(evaluate(SemSegBoundaryEvaluator(name, distributed=False), batches))
    predictions = np.empty(len(all_pairs), object)
    predictions[:] = [prediction for prediction, _ in all_pairs]
    np.save(tmp_path / "predictions.npy", predictions, allow_pickle=True)
    launch(_evaluate_shares, 2, dist_url=f"file://{tmp_path}/rendezvous", args=(str(tmp_path),))
    assert (tmp_path / "results_5.json").read_text() == expected
    assert (tmp_path / f"results_{len(all_pairs)}.json").read_text() == expected
