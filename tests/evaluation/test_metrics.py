"""`epl_d2.metrics` against the statistics, against both Detectron2 evaluators, and in two processes."""

from __future__ import annotations

import doctest
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from torch import distributed
from torchmetrics import MetricCollection

from epl_d2.evaluation import BoundaryStatistics, SemSegBoundaryEvaluator
from epl_d2.metrics import BoundaryFScore, BoundaryIoU, TrimapIoU, compute, modules, scores

CLASSES = ["sky", "tree", "car", "bird", "boat", "road"]
K = len(CLASSES)
WIDTHS = [5, 1, 3]
# metric, `average` -> name in `BoundaryStatistics.compute`
SCORES = {
    (BoundaryFScore, "macro"): "boundary_f",
    (BoundaryFScore, "micro"): "boundary_f_micro",
    (BoundaryFScore, "any"): "boundary_f_any",
    (BoundaryFScore, "davis"): "boundary_f_davis",
    (BoundaryFScore, None): "boundary_f_per_class",
    (TrimapIoU, "macro"): "trimap_miou",
    (TrimapIoU, "none"): "trimap_iou_per_class",
    (BoundaryIoU, "macro"): "boundary_iou",
    (BoundaryIoU, None): "boundary_iou_per_class",
}


def tensors(pair):
    """The pair as batches of one, of ids."""
    return tuple(torch.from_numpy(labels.astype(np.int64))[None] for labels in pair)


def as_scores(ids: torch.Tensor) -> torch.Tensor:
    """Scores [N,K,H,W] whose best are these ids, none of them 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(ids.shape[0], K, *ids.shape[1:], generator=generator)
    return noise + 2 * torch.nn.functional.one_hot(ids, K).movedim(-1, 1)


def counted(pairs, widths=WIDTHS, **settings) -> BoundaryStatistics:
    statistics = BoundaryStatistics(K, widths, **settings)
    for pair in pairs:
        statistics.update(*pair)
    return statistics


def counts_of(metric) -> dict[str, np.ndarray]:
    return {name: getattr(metric, name).numpy() for name in BoundaryStatistics(K).counts}


def assert_same_counts(metric, statistics: BoundaryStatistics) -> None:
    np.testing.assert_equal(counts_of(metric), statistics.counts)


def to_single(values) -> np.ndarray:
    return np.asarray(values, np.float32)


@pytest.mark.parametrize(("metric_class", "average"), SCORES)
def test_counts_and_scores_are_those_of_the_statistics(metric_class, average, all_pairs):
    metric = metric_class(K, WIDTHS, average)
    for pair in all_pairs:
        prediction, target = tensors(pair)
        metric.update(as_scores(prediction) if pair[0].shape[0] % 2 else prediction, target)
    statistics = counted(all_pairs)
    assert_same_counts(metric, statistics)
    expected = to_single(statistics.compute()[SCORES[metric_class, average]])
    np.testing.assert_array_equal(metric.compute().numpy(), expected)
    single = metric_class(K, 3, average)
    for pair in all_pairs:
        single.update(*tensors(pair))
    np.testing.assert_array_equal(single.compute().numpy(), expected[..., 2])
    assert single.compute().dtype == torch.float32


@pytest.mark.parametrize(
    "settings",
    [{"ignore_mode": "nearest", "ignore_distance": 2}, {"ignore_mode": "zero"}, {"trimap": "void"}],
    ids=lambda settings: next(iter(settings.values())),
)
def test_settings_arrive(settings, all_pairs):
    metric = TrimapIoU(K, WIDTHS, **settings)
    for pair in all_pairs:
        metric.update(*tensors(pair))
    statistics = counted(all_pairs, **settings)
    assert_same_counts(metric, statistics)
    assert any((statistics.counts[name] != counted(all_pairs).counts[name]).any() for name in statistics.counts)


def test_other_ignored_ids(all_pairs):
    metric = BoundaryFScore(K, WIDTHS, ignore_index=-100)
    for pair in all_pairs:
        prediction, target = tensors(pair)
        metric.update(prediction, target.where(target != 255, -100))
    assert_same_counts(metric, counted(all_pairs))


def test_a_batch_is_its_images(all_pairs):
    pairs = [(prediction[:20, :30], target[:20, :30]) for prediction, target in all_pairs if min(target.shape) >= 30]
    predictions, targets = (torch.cat(maps) for maps in zip(*map(tensors, pairs), strict=True))
    metric = BoundaryIoU(K, WIDTHS)
    metric.update(as_scores(predictions), targets)
    assert_same_counts(metric, counted(pairs))
    assert metric.images == len(pairs) > 5


def test_forward_returns_the_batch_and_keeps_the_sum(all_pairs):
    metric = BoundaryFScore(K, WIDTHS, "micro")
    for pair in all_pairs:
        expected = to_single(counted([pair]).compute()["boundary_f_micro"])
        np.testing.assert_array_equal(metric(*tensors(pair)).numpy(), expected)
    assert_same_counts(metric, counted(all_pairs))
    copy = pickle.loads(pickle.dumps(metric))
    copy.merge_state(metric.clone())
    assert_same_counts(copy, counted(2 * all_pairs))
    metric.reset()
    assert_same_counts(metric, BoundaryStatistics(K, WIDTHS))
    metric.update(*tensors(all_pairs[0]))
    assert_same_counts(metric, counted(all_pairs[:1]))


def test_counts_stay_integers(all_pairs):
    metric = MetricCollection([BoundaryFScore(K, WIDTHS).half().set_dtype(torch.float16)])
    metric.set_dtype(torch.float16)
    for pair in all_pairs:
        metric.update(*tensors(pair))
    assert_same_counts(metric["BoundaryFScore"], counted(all_pairs))
    assert all(values.dtype == np.int64 for values in counts_of(metric["BoundaryFScore"]).values())


def test_a_collection_counts_once_what_is_the_same(all_pairs, monkeypatch):
    alike = MetricCollection([BoundaryFScore(K, WIDTHS), TrimapIoU(K, sorted(WIDTHS)), BoundaryIoU(K, WIDTHS)])
    alike.update(*tensors(all_pairs[0]))
    updates = []
    count = BoundaryStatistics.update
    monkeypatch.setattr(BoundaryStatistics, "update", lambda *args: (updates.append(1), count(*args)))
    for pair in all_pairs[1:]:
        alike.update(*tensors(pair))
    assert len(updates) == len(all_pairs) - 1
    expected, results = counted(all_pairs).compute(), alike.compute()
    np.testing.assert_array_equal(results["BoundaryFScore"].numpy(), to_single(expected["boundary_f"]))
    np.testing.assert_array_equal(results["TrimapIoU"].numpy(), to_single(expected["trimap_miou"][[1, 2, 0]]))
    np.testing.assert_array_equal(results["BoundaryIoU"].numpy(), to_single(expected["boundary_iou"]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"width": 1}, {"width": 4}),
        ({"ignore_index": 255}, {"ignore_index": 254}),
        ({"ignore_mode": "ignore"}, {"ignore_mode": "zero"}),
        ({"ignore_mode": "nearest"}, {"ignore_mode": "nearest", "ignore_distance": 1}),
        ({"trimap": "void"}, {"trimap": "label-change"}),
    ],
)
def test_a_collection_keeps_apart_what_is_the_same_in_the_first_batch_alone(one, other, all_pairs):
    collection = MetricCollection({"one": BoundaryFScore(K, **one), "other": BoundaryFScore(K, **other)})
    nothing = torch.zeros(1, 4, 4, dtype=torch.long)
    collection.update(nothing, nothing)
    assert len(collection.compute_groups) == 2


def test_errors(all_pairs):
    for arguments, message in (
        ({"average": "weighted"}, "average must be one of .*'macro'.*or None, got 'weighted'"),
        ({"width": 0}, "widths must be positive integers"),
        ({"width": []}, "widths must be positive integers .*at least one"),
        ({"ignore_index": 1}, "ignore_value must be no class id 0..5, got 1"),
        ({"trimap": "rim"}, "trimap must be one of .*'rim'"),
    ):
        with pytest.raises(ValueError, match=message):
            BoundaryFScore(K, **arguments)
    with pytest.raises(ValueError, match=r"average must be one of \('macro', 'none'\) or None, got 'micro'"):
        TrimapIoU(K, average="micro")
    metric = BoundaryIoU(K)
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    bad = target.clone()
    bad[1, 3, 3] = 9
    for preds, labels, message in (
        (torch.zeros(2, 5, 8, 8), target, r"preds must be \[N,K,H,W\] with the K = 6 classes, got \[2, 5, 8, 8\]"),
        (torch.zeros(2, 6, 4, 4), target, "must have one size, got 2 x 4 x 4 and 2 x 8 x 8"),
        (torch.full((2, 6, 8, 8), torch.nan), target, "scores of the prediction are NaN"),
        (torch.zeros(2, 8, 8), target, "prediction must hold integers, got float32"),
        (target[0], target[0], r"got \[8, 8\] and \[8, 8\]"),
        (target, bad, "target holds ids outside the classes: 9"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(preds, labels)
    assert_same_counts(metric, BoundaryStatistics(K, [3]))


def drawn(axis) -> dict[str, list[float]]:
    return {line.get_label(): np.ravel(line.get_ydata()).tolist() for line in axis.lines}


def test_plots(all_pairs):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    single, several = BoundaryFScore(K, 3), BoundaryFScore(K, WIDTHS)
    steps = [(single(*tensors(pair)), several(*tensors(pair))) for pair in all_pairs[:4]]
    _, axis = single.plot()
    assert list(drawn(axis).values()) == [[single.compute()]]
    assert axis.get_ylabel() == "BoundaryFScore" and axis.get_ylim() == pytest.approx((-0.1, 1.1))
    _, axis = single.plot([step for step, _ in steps])
    assert list(drawn(axis).values()) == [[step for step, _ in steps]]
    _, axis = several.plot()
    assert drawn(axis) == {f"{width} px": [value] for width, value in zip(WIDTHS, several.compute(), strict=True)}
    _, given = pyplot.subplots()
    _, axis = several.plot([step for _, step in steps], ax=given)
    assert axis is given
    assert drawn(axis) == {f"{w} px": [step[i] for _, step in steps] for i, w in enumerate(WIDTHS)}
    classes, table = (BoundaryIoU(K, width, average=None) for width in (3, WIDTHS))
    for pair in all_pairs:
        classes.update(*tensors(pair))
        table.update(*tensors(pair))
    _, axis = classes.plot()
    assert list(drawn(axis)) == [f"Class {label}" for label in range(K)]
    _, axis = table.plot()
    assert len(axis.lines) == 3 * K and drawn(axis)["Class 2, 1 px"] == [table.compute()[2, 1]]
    pyplot.close("all")


def _count_a_share(rank: int, folder: str) -> None:
    """A process of two: its share of the pairs, unequal ones; the scores of all go into a file."""
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    pairs = np.load(f"{folder}/pairs.npy", allow_pickle=True)
    metric = BoundaryFScore(K, WIDTHS, "davis")
    untouched = TrimapIoU(K, WIDTHS)
    for index, pair in enumerate(pairs):
        if (index < 5) == (rank == 0):
            metric.update(*tensors(pair))
            if rank == 0:
                untouched.update(*tensors(pair))
    alone = counts_of(metric)
    result = metric.compute().numpy(), untouched.compute().numpy()
    np.testing.assert_equal(counts_of(metric), alone)  # compute() gives the states back
    np.savez(f"{folder}/scores_{rank}.npz", *result)
    distributed.destroy_process_group()


def test_two_processes_give_the_result_of_one(all_pairs, tmp_path):
    pairs = np.empty((len(all_pairs), 2), object)
    pairs[:] = [list(pair) for pair in all_pairs]
    np.save(tmp_path / "pairs.npy", pairs, allow_pickle=True)
    torch.multiprocessing.spawn(_count_a_share, args=(str(tmp_path),), nprocs=2)
    expected = to_single(counted(all_pairs).compute()["boundary_f_davis"])
    of_the_first = to_single(counted(all_pairs[:5]).compute()["trimap_miou"])
    for rank in range(2):
        with np.load(tmp_path / f"scores_{rank}.npz") as result:
            np.testing.assert_array_equal(result["arr_0"], expected)
            np.testing.assert_array_equal(result["arr_1"], of_the_first)


def test_scores_are_those_of_both_evaluators(all_pairs, tmp_path):
    """Ours at the contours, Detectron2's own for the IoU; both read the labels from files."""
    samples = []
    for index, (prediction, target) in enumerate(all_pairs):
        label, image = str(tmp_path / f"label_{index}.png"), str(tmp_path / f"image_{index}.jpg")
        cv2.imwrite(label, target)
        samples.append((image, label, as_scores(torch.from_numpy(prediction.astype(np.int64))[None])[0]))
    name = "evaluated_by_metrics"
    DatasetCatalog.register(
        name, lambda: [{"file_name": image, "sem_seg_file_name": label} for image, label, _ in samples]
    )
    MetadataCatalog.get(name).set(stuff_classes=CLASSES, ignore_label=255)
    try:
        ours, theirs = (kind(name, distributed=False) for kind in (SemSegBoundaryEvaluator, SemSegEvaluator))
        for evaluator in (ours, theirs):
            evaluator.reset()
            for image, _, logits in samples:
                evaluator.process([{"file_name": image}], [{"sem_seg": logits}])
        ours, theirs = ours.evaluate()["sem_seg"], theirs.evaluate()["sem_seg"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    logits = (logits for _, _, logits in samples)
    found = compute(predictions=logits, references=(target for _, target in all_pairs), num_labels=K, per_category=True)
    of_classes = zip(CLASSES, found["per_category_iou"], found["per_category_accuracy"], strict=True)
    for label, iou, accuracy in of_classes:
        assert [100 * iou, 100 * accuracy] == pytest.approx(
            [theirs[f"IoU-{label}"], theirs[f"ACC-{label}"]], abs=1e-9, nan_ok=True
        )
    of_both = {"mean_iou": "mIoU", "mean_accuracy": "mACC", "overall_accuracy": "pACC"}
    assert {key: 100 * found[key] for key in of_both} == pytest.approx(
        {key: theirs[name] for key, name in of_both.items()}, abs=1e-9
    )
    names = {"boundary_f": "BF", "boundary_f_micro": "BF-micro", "boundary_f_any": "BF-any"}
    names |= {"boundary_f_davis": "BF-davis", "trimap_iou": "Trimap-mIoU", "boundary_iou": "Boundary-IoU"}
    for key, name in names.items():
        for width in (1, 3, 5, 9):
            assert 100 * found[f"{key}_{width}px"] == ours[f"{name}@{width}px"]
    metric = BoundaryFScore(K, [1, 3, 5, 9])
    for (_, _, logits), (_, target) in zip(samples, all_pairs, strict=True):
        metric.update(logits[None], torch.from_numpy(target)[None])
    expected = [ours[f"BF@{width}px"] / 100 for width in (1, 3, 5, 9)]
    np.testing.assert_array_equal(metric.compute().numpy(), to_single(expected))


def test_compute_takes_arrays_tensors_and_generators(all_pairs):
    target = np.stack([np.resize(target, (24, 30)) for _, target in all_pairs]).astype(np.int16)
    prediction = np.stack([np.resize(prediction, (24, 30)) for prediction, _ in all_pairs])
    logits = as_scores(torch.from_numpy(prediction.astype(np.int64))).requires_grad_()
    settings = {"num_labels": K, "widths": [2], "per_category": True}
    expected = compute(predictions=prediction, references=target, **settings)
    statistics = counted(zip(prediction, target, strict=True), [2]).compute()
    assert expected["boundary_f_2px"] == statistics["boundary_f"][0] > 0
    np.testing.assert_equal(
        [expected["per_category_boundary_iou_2px"], expected["per_category_iou"]],
        [statistics["boundary_iou_per_class"][:, 0].tolist(), statistics["IoU"].tolist()],
    )
    same = np.testing.assert_equal
    same(compute(predictions=logits, references=target, **settings), expected)
    same(compute(predictions=iter(logits), references=iter(torch.from_numpy(target)), **settings), expected)
    for dtype in (torch.float16, torch.bfloat16):
        same(compute(predictions=logits.to(dtype), references=target, **settings), expected)
    other = np.where(target == 255, -100, target)
    same(compute(predictions=prediction, references=other, ignore_index=-100, **settings), expected)
    plain = compute(predictions=prediction, references=target, num_labels=K, widths=[2])
    same(plain, {name: value for name, value in expected.items() if "per_category" not in name})
    assert all(type(value) is float for value in plain.values())
    zero = compute(predictions=prediction, references=target, ignore_mode="zero", trimap="void", **settings)
    assert zero["boundary_f_2px"] != expected["boundary_f_2px"] and zero["trimap_iou_2px"] != expected["trimap_iou_2px"]


def test_compute_names_the_pair_that_does_not_fit():
    target = np.zeros((2, 8, 8), np.uint8)
    for predictions, references, message in (
        (target[:, :4], target, "pair 0: prediction and target must have one size, got 4 x 8 and 8 x 8"),
        ([target[0], target[1] + 7], target, "pair 1: prediction holds ids outside the classes: 7"),
        (np.zeros((2, 3, 8, 8)), target, r"pair 0: prediction must be .* scores of the K = 2 classes, got \[3, 8, 8\]"),
        (np.where(np.arange(8) == 3, np.nan, np.zeros((2, 2, 8, 8))), target, "pair 0: the scores .* are NaN"),
        (target[:1], target, "there are more references than predictions, 1"),
        (torch.full((2, 2, 8, 8), torch.nan, dtype=torch.bfloat16), target, "pair 0: the scores .* are NaN"),
        (target, torch.zeros(2, 8, 8, dtype=torch.bfloat16), "pair 0: target must hold integers, got float32"),
        (target, target[:1], "there are more predictions than references, 1"),
    ):
        with pytest.raises(ValueError, match=message):
            compute(predictions=predictions, references=references, num_labels=2)


@pytest.mark.parametrize("module", [modules, scores], ids=lambda module: module.__name__)
def test_examples(module):
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0 and result.attempted >= 4


def test_without_torchmetrics_the_modules_say_so_and_compute_works():
    code = """
import sys
sys.modules["torchmetrics"] = None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "torchmetrics" else real(name, *a)
import epl_d2.metrics
print(epl_d2.metrics.compute(predictions=[], references=[], num_labels=2)["mean_iou"], "torch" in sys.modules)
try:
    epl_d2.metrics.BoundaryFScore
except ImportError as error:
    print(error)
"""
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.startswith("nan False\n")
    assert "epl_d2.metrics.BoundaryFScore needs torchmetrics, which is not installed" in result.stdout
