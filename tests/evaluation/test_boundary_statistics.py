"""Counts and scores against brute force: SciPy distance transforms and literal dilations, class by class."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from epl_d2.evaluation import BoundaryStatistics

WIDTHS = (1, 2, 3, 5, 9, 12, 20)
MODES = list(itertools.product(("ignore", "nearest", "zero"), ("label-change", "void")))


def contour(member: np.ndarray) -> np.ndarray:
    """DAVIS ``seg2bmap``: where membership differs from the east, south or south-east neighbor."""
    edge = np.zeros(member.shape, bool)
    edge[:, :-1] |= member[:, :-1] != member[:, 1:]
    edge[:-1] |= member[:-1] != member[1:]
    edge[:-1, :-1] |= member[:-1, :-1] != member[1:, 1:]
    return edge


def block_is_valid(valid: np.ndarray) -> np.ndarray:
    """Whether a pixel and its east, south and south-east neighbors inside the image are all valid."""
    padded = np.pad(valid, ((0, 1), (0, 1)), constant_values=True)
    return padded[:-1, :-1] & padded[:-1, 1:] & padded[1:, :-1] & padded[1:, 1:]


def filled_by_nearest(labels: np.ndarray, distance: int, ignored=255) -> np.ndarray:
    """Ignored pixels with the label of the valid pixel of the smallest (squared distance, row, column), if near."""
    filled, candidates = labels.copy(), np.argwhere(labels != ignored)
    for y, x in np.argwhere(labels == ignored):
        squares = ((candidates - (y, x)) ** 2).sum(axis=1)
        if squares.size and squares.min() <= distance**2:
            filled[y, x] = labels[tuple(candidates[squares.argmin()])]  # the first in row-major order
    return filled


def squared_distance(points: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance to the nearest true pixel, as integers; huge where there is none."""
    if not points.any():
        return np.full(points.shape, 1 << 40)
    return np.rint(ndimage.distance_transform_edt(~points) ** 2).astype(np.int64)


def reference_contours(prediction, target, classes, widths, mode, ignored=255):
    """Totals and matched pixels of every class, then of the contours of all classes together."""
    valid = target != ignored
    totals = np.zeros((2, classes + 1), np.int64)
    matched = np.zeros((2, classes + 1, len(widths)), np.int64)
    of_classes = []
    for label in range(classes):
        if mode == "zero":
            of_classes.append([contour((labels == label) & valid) for labels in (prediction, target)])
        else:
            of_classes.append([contour(labels == label) & block_is_valid(valid) for labels in (prediction, target)])
    of_classes.append(np.any(of_classes, axis=0))
    for label, edges in enumerate(of_classes):
        for side in (0, 1):
            distances = squared_distance(edges[1 - side])[edges[side]]
            totals[side, label] = edges[side].sum()
            matched[side, label] = [(distances <= width**2).sum() for width in widths]
    return totals, matched


def reference_hidden(target, classes, mode):
    """Contour pixels of the target that there are with cleared masks and not without edges of ignored areas."""
    totals = [reference_contours(target, target, classes, (1,), m)[0][1, :classes].sum() for m in ("zero", "ignore")]
    return 0 if mode == "zero" else totals[0] - totals[1]


def reference_bands(prediction, target, classes, bands):
    """Shared, target and predicted pixels [3,K,D] of label maps inside each band."""
    counts = np.zeros((3, classes, len(bands)), np.int64)
    for label, (index, band) in itertools.product(range(classes), enumerate(bands)):
        of_prediction, of_target = band & (prediction == label), band & (target == label)
        counts[:, label, index] = (of_prediction & of_target).sum(), of_target.sum(), of_prediction.sum()
    return counts


def reference_trimap(prediction, target, classes, widths, trimap, ignored=255):
    valid = target != ignored
    if trimap == "void":
        bands = [ndimage.binary_dilation(~valid, np.ones((2 * width + 1,) * 2)) & valid for width in widths]
    else:
        changes = np.zeros(target.shape, bool)
        across = (target[:, 1:] != target[:, :-1]) & valid[:, 1:] & valid[:, :-1]
        down = (target[1:] != target[:-1]) & valid[1:] & valid[:-1]
        changes[:, 1:] |= across
        changes[:, :-1] |= across
        changes[1:] |= down
        changes[:-1] |= down
        bands = [(squared_distance(changes) < width**2) & valid for width in widths]
    return reference_bands(prediction, target, classes, bands)


def reference_boundary_bands(prediction, target, classes, widths, mode, ignored=255):
    valid = target != ignored
    counts = np.zeros((3, classes, len(widths)), np.int64)
    for label, (index, width) in itertools.product(range(classes), enumerate(widths)):
        bands = []
        for labels in (prediction, target):
            member = (labels == label) & valid
            inside = member if mode == "zero" else member | ~valid
            core = ndimage.minimum_filter(inside.astype(np.uint8), 2 * width + 1, mode="constant", cval=0)
            bands.append(member & (core == 0))
        counts[:, label, index] = (bands[0] & bands[1]).sum(), bands[1].sum(), bands[0].sum()
    return counts


def reference_f(totals, matched, empty):
    """F [K,D] with a value of its own where a class has no contour in either map."""
    f = np.zeros(matched.shape[1:])
    for label, index in np.ndindex(*f.shape):
        if totals[:, label].sum() == 0:
            f[label, index] = empty
        elif totals[:, label].all():
            precision, recall = matched[:, label, index] / totals[:, label]
            f[label, index] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return f


def assert_counts_equal(statistics: BoundaryStatistics, pairs, classes) -> None:
    widths = statistics.widths
    mode, trimap = statistics.ignore_mode, statistics.trimap
    expected = {
        "images": np.int64(len(pairs)),
        "confusion": np.zeros((classes, classes), np.int64),
        "contour_totals": np.zeros((2, classes), np.int64),
        "contour_matched": np.zeros((2, classes, len(widths)), np.int64),
        "contour_totals_any": np.zeros(2, np.int64),
        "contour_matched_any": np.zeros((2, len(widths)), np.int64),
        "hidden_contours": np.int64(0),
        "trimap": np.zeros((3, classes, len(widths)), np.int64),
        "boundary_bands": np.zeros((3, classes, len(widths)), np.int64),
    }
    davis = np.zeros((classes, len(widths)))
    for prediction, target in pairs:
        valid = target != 255
        np.add.at(expected["confusion"], (target[valid], prediction[valid]), 1)
        expected["trimap"] += reference_trimap(prediction, target, classes, widths, trimap)
        if mode == "nearest":
            target = filled_by_nearest(target, statistics.ignore_distance)
        expected["hidden_contours"] += reference_hidden(target, classes, mode)
        totals, matched = reference_contours(prediction, target, classes, widths, mode)
        expected["contour_totals"] += totals[:, :classes]
        expected["contour_matched"] += matched[:, :classes]
        expected["contour_totals_any"] += totals[:, classes]
        expected["contour_matched_any"] += matched[:, classes]
        davis += reference_f(totals[:, :classes], matched[:, :classes], empty=1.0)
        expected["boundary_bands"] += reference_boundary_bands(prediction, target, classes, widths, mode)
    counts = statistics.counts
    np.testing.assert_allclose(counts.pop("davis_sums") / 2.0**40, davis, rtol=0, atol=1e-11 * len(pairs))
    assert counts.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(counts[name], values, err_msg=name)


@pytest.mark.parametrize(("mode", "trimap"), MODES)
def test_counts_equal_brute_force(pair, mode, trimap):
    statistics = BoundaryStatistics(6, WIDTHS, ignore_mode=mode, trimap=trimap)
    statistics.update(*pair)
    assert_counts_equal(statistics, [pair], 6)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), mode=st.sampled_from(MODES), widths=st.sets(st.integers(1, 9), min_size=1))
def test_counts_equal_brute_force_on_any_small_map(data, mode, widths):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    distance = data.draw(st.integers(1, 4))
    prediction = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2)))
    target = data.draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255])))
    statistics = BoundaryStatistics(3, sorted(widths), ignore_mode=mode[0], trimap=mode[1], ignore_distance=distance)
    statistics.update(prediction, target)
    assert_counts_equal(statistics, [(prediction, target)], 3)


@pytest.mark.parametrize("widths", [(1,), (70,), (200,), (3, 130)])
def test_counts_equal_brute_force_at_other_widths(all_pairs, widths):
    pairs = [pair for pair in all_pairs if pair[0].size > 4000]
    statistics = BoundaryStatistics(6, widths)
    for pair in pairs:
        statistics.update(*pair)
    assert_counts_equal(statistics, pairs, 6)


@pytest.mark.parametrize("classes", [1, 33, 150, 254, 256, 300])
def test_any_number_of_classes(classes):
    rng = np.random.default_rng(classes)
    target = np.kron(rng.integers(0, classes, (12, 20)), np.ones((5, 5), np.int64))
    prediction = np.roll(target, (1, 2), axis=(0, 1))
    prediction[:10, :30] = rng.integers(0, classes, (10, 30))
    target[rng.random(target.shape) < 0.02] = 65535
    statistics = BoundaryStatistics(classes, (1, 3), ignore_value=65535)
    statistics.update(prediction, target)
    maps, counts = (prediction, target, classes, (1, 3)), statistics.counts
    totals, matched = reference_contours(*maps, "ignore", ignored=65535)
    np.testing.assert_array_equal(counts["contour_totals"], totals[:, :classes])
    np.testing.assert_array_equal(counts["contour_matched"], matched[:, :classes])
    np.testing.assert_array_equal(counts["contour_matched_any"], matched[:, classes])
    np.testing.assert_array_equal(counts["trimap"], reference_trimap(*maps, "label-change", ignored=65535))
    np.testing.assert_array_equal(counts["boundary_bands"], reference_boundary_bands(*maps, "ignore", ignored=65535))


def gscnn_f(prediction: np.ndarray, target: np.ndarray, label: int, width: int) -> float:
    """Boundary F of one class as DAVIS and GSCNN define it: cleared masks, dilation by a disk."""
    guess, truth = ((labels == label) & (target != 255) for labels in (prediction, target))
    guess_edge, truth_edge = contour(guess), contour(truth)
    y, x = np.mgrid[-width : width + 1, -width : width + 1]
    disk = x * x + y * y <= width * width
    guess_match = guess_edge & ndimage.binary_dilation(truth_edge, disk)
    truth_match = truth_edge & ndimage.binary_dilation(guess_edge, disk)
    if guess_edge.sum() == 0 and truth_edge.sum() == 0:
        precision, recall = 1.0, 1.0
    elif guess_edge.sum() == 0:
        precision, recall = 1.0, 0.0
    elif truth_edge.sum() == 0:
        precision, recall = 0.0, 1.0
    else:
        precision, recall = guess_match.sum() / guess_edge.sum(), truth_match.sum() / truth_edge.sum()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def test_zero_and_davis_are_the_published_protocol(all_pairs):
    widths = (3, 5, 9, 12)
    statistics = BoundaryStatistics(6, widths, ignore_mode="zero")
    f = np.zeros((6, len(widths), len(all_pairs)))
    for index, pair in enumerate(all_pairs):
        statistics.update(*pair)
        f[:, :, index] = [[gscnn_f(*pair, label, width) for width in widths] for label in range(6)]
    scores = statistics.compute()
    np.testing.assert_allclose(scores["boundary_f_davis_per_class"], f.mean(axis=2), rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores["boundary_f_davis"], f.mean(axis=(0, 2)), rtol=0, atol=1e-9)


def test_scores_follow_from_counts(all_pairs):
    statistics = BoundaryStatistics(7, WIDTHS)  # class 6 occurs nowhere
    for pair in all_pairs:
        statistics.update(*pair)
    counts, scores = statistics.counts, statistics.compute()
    f = reference_f(counts["contour_totals"], counts["contour_matched"], empty=np.nan)
    np.testing.assert_allclose(scores["boundary_f_per_class"], f, rtol=1e-12)
    assert np.isnan(f[6]).all() and not np.isnan(f[:4]).any()
    np.testing.assert_allclose(scores["boundary_f"], np.nanmean(f, axis=0), rtol=1e-12)
    for name, key in (("trimap", "trimap_iou_per_class"), ("boundary_bands", "boundary_iou_per_class")):
        shared, wanted, given = counts[name].astype(float)
        with np.errstate(invalid="ignore"):
            iou = np.where(wanted > 0, shared / (wanted + given - shared), np.nan)
        np.testing.assert_allclose(scores[key], iou, rtol=1e-12)
        mean = scores["trimap_miou" if name == "trimap" else "boundary_iou"]
        np.testing.assert_allclose(mean, np.nanmean(iou, axis=0), rtol=1e-12)


def test_precision_recall_and_pooled_f_equal_sums_over_images_and_classes(all_pairs):
    """Literal sums, class by class and then over everything; class 4 occurs in predictions alone, 5 and 6 nowhere."""
    pairs = [(prediction, np.where(target == 4, 255, target)) for prediction, target in all_pairs]
    statistics = BoundaryStatistics(7, WIDTHS)
    counted = []
    for pair in pairs:
        statistics.update(*pair)
        counted.append(reference_contours(*pair, 7, WIDTHS, "ignore"))
    scores = statistics.compute()
    totals, matched = (sum(parts) for parts in zip(*counted, strict=True))
    assert totals[0, 4] > 0 == totals[1, 4]
    for column in range(len(WIDTHS)):
        shares = [
            [m / t if t else 0.0 for m, t in zip(matched[s, :5, column], totals[s, :5], strict=True)] for s in (0, 1)
        ]
        assert scores["boundary_precision"][column] == pytest.approx(sum(shares[0]) / 5, rel=1e-12)
        assert scores["boundary_recall"][column] == pytest.approx(sum(shares[1]) / 5, rel=1e-12)
        for name, rows in (("micro", slice(0, 7)), ("any", slice(7, 8))):
            precision, recall = (matched[side, rows, column].sum() / totals[side, rows].sum() for side in (0, 1))
            assert scores[f"boundary_precision_{name}"][column] == pytest.approx(precision, rel=1e-12)
            assert scores[f"boundary_recall_{name}"][column] == pytest.approx(recall, rel=1e-12)
            f = 2 * precision * recall / (precision + recall)
            assert scores[f"boundary_f_{name}"][column] == pytest.approx(f, rel=1e-12)
    assert scores["boundary_f_any"][0] > scores["boundary_f_micro"][0]  # a contour between wrong classes is one


def test_without_contours_the_pooled_scores_are_undefined_or_zero():
    flat, split = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    split[:, 4:] = 1
    names = [f"boundary_{score}_{kind}" for score in ("f", "precision", "recall") for kind in ("micro", "any")]
    for prediction, target, expected in ((flat, flat, np.nan), (flat, split, 0.0), (split, flat, 0.0)):
        statistics = BoundaryStatistics(2, [1])
        statistics.update(prediction, target)
        scores = statistics.compute()
        assert all(scores[name].tolist() == pytest.approx([expected], nan_ok=True) for name in names)


def test_confusion_scores_by_hand():
    statistics = BoundaryStatistics(4, [1])
    target = np.array([[0, 0, 0, 1, 1, 255]])
    prediction = np.array([[0, 0, 1, 1, 2, 3]])
    statistics.update(prediction, target)
    scores = statistics.compute()
    np.testing.assert_array_equal(scores["confusion"], [[2, 1, 0, 0], [0, 1, 1, 0], [0] * 4, [0] * 4])
    np.testing.assert_allclose(scores["IoU"], [2 / 3, 1 / 3, np.nan, np.nan])
    np.testing.assert_allclose(scores["ACC"], [2 / 3, 1 / 2, np.nan, np.nan])
    assert scores["mIoU"] == pytest.approx(1 / 2)
    assert scores["mACC"] == pytest.approx(7 / 12)
    assert scores["pACC"] == pytest.approx(3 / 5)
    assert scores["fwIoU"] == pytest.approx(3 / 5 * 2 / 3 + 2 / 5 * 1 / 3)


def test_band_widths_by_hand():
    """A straight edge: d pixels on each side are the trimap at d, and the boundary band too."""
    target = np.zeros((40, 40), np.uint8)
    target[:, 20:] = 1
    statistics = BoundaryStatistics(2, [1, 4])
    statistics.update(target, target)
    assert statistics.counts["trimap"][1].tolist() == [[40, 160], [40, 160]]
    frame = [20 * 40 - 18 * 38, 20 * 40 - 12 * 32]  # the outside of the image ends a class's region as well
    assert statistics.counts["boundary_bands"][1].tolist() == [frame, frame]


def test_perfect_prediction_scores_one_whatever_is_predicted_on_ignored_pixels(all_pairs):
    rng = np.random.default_rng(0)
    for _, target in all_pairs:
        if (target == 255).all():
            continue
        for mode in ("ignore", "nearest", "zero"):
            known = filled_by_nearest(target, 2) if mode == "nearest" else target
            prediction = np.where(known == 255, rng.integers(0, 6, target.shape), known)
            statistics = BoundaryStatistics(6, [1, 3], ignore_mode=mode, ignore_distance=2)
            statistics.update(prediction, target)
            scores = statistics.compute()
            for key in ("mIoU", "boundary_f", "boundary_f_davis", "trimap_miou", "boundary_iou"):
                assert np.isin(np.nan_to_num(scores[key], nan=1.0), 1.0).all(), key


def test_predictions_on_ignored_pixels_change_nothing(pair):
    prediction, target = pair
    for mode in ("ignore", "nearest", "zero"):
        ignored = (filled_by_nearest(target, 2) if mode == "nearest" else target) == 255
        other = np.where(ignored, 5 - prediction % 6, prediction).astype(np.uint8)
        outside = np.where(ignored, 255, prediction).astype(np.uint8)
        counts = []
        for labels in (prediction, other, outside):
            statistics = BoundaryStatistics(6, WIDTHS, ignore_mode=mode, ignore_distance=2)
            statistics.update(labels, target)
            counts.append(statistics.counts)
        for name, values in counts[0].items():
            np.testing.assert_array_equal(counts[1][name], values)
            np.testing.assert_array_equal(counts[2][name], values)


def test_nearest_puts_the_contour_into_the_middle_of_a_rim():
    target = np.full((20, 40), 255, np.uint8)
    target[:, :18], target[:, 23:] = 0, 1
    for contour_at, score in ((20, 1.0), (21, 0.0)):  # the middle one of the five columns is filled from the left
        prediction = np.zeros_like(target)
        prediction[:, contour_at + 1 :] = 1
        statistics = BoundaryStatistics(2, [1, 2], ignore_mode="nearest")
        unchanged = target.copy()
        statistics.update(prediction, target)
        np.testing.assert_array_equal(target, unchanged)
        scores = statistics.compute()
        assert scores["mIoU"] == 1.0  # the labels alone do not tell the two apart
        assert scores["confusion"].sum() == (target != 255).sum()
        assert scores["boundary_f"].tolist() == [1.0, 1.0]
        assert (scores["boundary_iou"] == 1.0).all() == bool(score)


def test_nearest_refuses_predictions_without_a_class_where_they_count():
    target = np.zeros((4, 9), np.uint8)
    target[:, 3:] = 255
    prediction = np.where(target == 255, 255, 0)
    statistics = BoundaryStatistics(2, [1], ignore_mode="nearest", ignore_distance=3)
    with pytest.raises(ValueError, match="outside the classes on ignored pixels, where ignore_mode 'nearest'"):
        statistics.update(prediction, target)
    assert all(not values.any() for values in statistics.counts.values())
    prediction[:, 3:6] = 1
    statistics.update(prediction, target)
    assert statistics.counts["contour_totals"].tolist() == [[4, 4], [0, 0]]


def test_merge_is_exact_for_any_split(all_pairs):
    whole = BoundaryStatistics(6, WIDTHS)
    for pair in all_pairs:
        whole.update(*pair)
    rng = np.random.default_rng(0)
    for parts in (1, 2, 3, 7, 40):  # 40: some parts stay empty
        shares = [BoundaryStatistics(6, WIDTHS) for _ in range(parts)]
        for index in rng.permutation(len(all_pairs)):
            shares[rng.integers(parts)].update(*all_pairs[index])
        merged = BoundaryStatistics(6, WIDTHS)
        for share in pickle.loads(pickle.dumps(shares)):
            merged.merge(share)
        assert merged.num_images == len(all_pairs)
        for name, values in whole.compute().items():
            np.testing.assert_array_equal(merged.compute()[name], values, err_msg=name)


def test_order_of_widths_is_kept(pair):
    ascending, other = BoundaryStatistics(6, [1, 2, 5]), BoundaryStatistics(6, [5, 1, 2, 1])
    for statistics in (ascending, other):
        statistics.update(*pair)
    expected, scores = ascending.compute(), other.compute()
    for name in (
        "boundary_f",
        "boundary_recall_micro",
        "boundary_f_davis_per_class",
        "trimap_miou",
        "boundary_iou_per_class",
    ):
        np.testing.assert_array_equal(scores[name], expected[name][..., [2, 0, 1, 0]])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
def test_any_integer_dtype_and_layout(all_pairs, dtype):
    for prediction, target in all_pairs:
        expected, statistics = BoundaryStatistics(6, [1, 3]), BoundaryStatistics(6, [1, 3], ignore_value=100)
        expected.update(prediction, target)
        wide = np.where(target == 255, 100, target).astype(dtype)
        statistics.update(np.asfortranarray(prediction.astype(dtype)), wide[::-1][::-1])
        for name, values in expected.counts.items():
            np.testing.assert_array_equal(statistics.counts[name], values)


def test_negative_ignore_value():
    statistics = BoundaryStatistics(2, [1], ignore_value=-1)
    statistics.update(np.array([[0, 1, 1]]), np.array([[0, 1, -1]]))
    assert statistics.counts["confusion"].tolist() == [[1, 0], [0, 1]]


def test_batch_is_a_loop(all_pairs):
    pairs = [(prediction[:20, :30], target[:20, :30]) for prediction, target in all_pairs if target.shape >= (20, 30)]
    pairs = [pair for pair in pairs if pair[0].shape == (20, 30)]
    assert len(pairs) > 3
    batch, loop = BoundaryStatistics(6, WIDTHS), BoundaryStatistics(6, WIDTHS)
    batch.update(np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs]))
    for pair in pairs:
        loop.update(*pair)
    for name, values in loop.counts.items():
        np.testing.assert_array_equal(batch.counts[name], values)


def test_nothing_seen_is_undefined():
    scores = BoundaryStatistics(3, [1, 2]).compute()
    assert scores.pop("confusion").sum() == 0
    for name, values in scores.items():
        assert np.isnan(values).all(), name


@pytest.mark.parametrize("widths", [[], [0], [-1], [1.5], ["3"], [True], [1, None]])
def test_bad_widths(widths):
    with pytest.raises(ValueError, match="widths must be positive integers"):
        BoundaryStatistics(3, widths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be 1 to 65534, got 0"),
        ({"ignore_value": 2}, "ignore_value must be no class id"),
        ({"ignore_mode": "skip"}, "ignore_mode must be one of .*'zero'.* got 'skip'"),
        ({"trimap": "rim"}, "trimap must be one of .*'label-change'.* got 'rim'"),
        ({"ignore_distance": 0}, r"ignore_distance must be a positive integer \(pixels\), got 0"),
        ({"ignore_distance": 2.5}, "ignore_distance must be a positive integer .* got 2.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BoundaryStatistics(**{"num_classes": 3, "widths": [1], **arguments})


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "must have one size, got 2 x 3 and 3 x 2"),
        (np.zeros(3, int), np.zeros(3, int), r"must be \[H,W\] or \[N,H,W\]"),
        (np.zeros((0, 3), int), np.zeros((0, 3), int), "not empty"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), "prediction must hold integers, got float64"),
        (
            np.full((2, 3), 3),
            np.zeros((2, 3), int),
            r"prediction holds ids outside the classes: 3; ids may be 0\.\.2",
        ),
        (np.full((2, 3), -1), np.zeros((2, 3), int), "prediction holds ids outside the classes: -1"),
        (np.full((2, 3), 255), np.zeros((2, 3), np.uint8), "prediction holds ids outside the classes: 255"),
        (
            np.zeros((2, 3), int),
            np.full((2, 3), 7),
            r"target holds ids outside the classes: 7.* or 255 \(ignored\)",
        ),
        (
            np.zeros((2, 3), np.uint8),
            np.full((2, 3), 254, np.uint8),
            "target holds ids outside the classes: 254",
        ),
        (np.full((2, 3), 256), np.zeros((2, 3), int), "prediction holds ids outside the classes: 256"),
    ],
)
def test_bad_maps_are_not_counted(prediction, target, message):
    statistics = BoundaryStatistics(3, [1])
    with pytest.raises(ValueError, match=message):
        statistics.update(prediction, target)
    assert all(not values.any() for values in statistics.counts.values())


@pytest.mark.parametrize("classes", [1, 253, 254, 255, 256, 300])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_the_first_id_outside_the_classes_is_found(classes, dtype):
    if classes > np.iinfo(dtype).max:
        return
    statistics = BoundaryStatistics(1, [1]) if classes == 1 else BoundaryStatistics(classes, [1], ignore_value=-1)
    good, bad = np.zeros((2, 3), dtype), np.full((2, 3), classes, dtype)
    for prediction, target, name in ((bad, good, "prediction"), (good, bad, "target")):
        with pytest.raises(ValueError, match=f"{name} holds ids outside the classes: {classes};"):
            statistics.update(prediction, target)


def test_merge_of_other_settings():
    with pytest.raises(ValueError, match="cannot merge"):
        BoundaryStatistics(3, [1]).merge(BoundaryStatistics(3, [1, 2]))
