"""Which files belong together, counting in several processes, and what becomes of bad files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from epl_d2.evaluation import BoundaryStatistics, prediction_folders
from epl_d2.evaluation.prediction_folders import (
    LabelPair,
    count_pairs,
    distinct_names,
    find_predictions,
    find_targets,
    parse_widths,
)
from epl_d2.processes import end_with_parent


def write(path: Path, labels=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((4, 5), np.uint8) if labels is None else labels)
    return path


def write_palette(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels).convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.putpalette([value for index in range(256) for value in (index, 255 - index, index * 7 % 256)])
    picture.save(path)
    return path


@pytest.fixture
def pairs(tmp_path, all_pairs) -> list[LabelPair]:
    """Files of all pairs, in turn gray, palette and 16 bits."""
    files = []
    for index, (prediction, target) in enumerate(all_pairs):
        path = tmp_path / "predictions" / f"{index}.png"
        if index % 3 == 0:
            write(path, prediction)
        elif index % 3 == 1:
            write_palette(path, prediction)
        else:
            write(path, prediction.astype(np.uint16))
        files.append(LabelPair(path, write_palette(tmp_path / "targets" / f"{index}.png", target)))
    return files


@pytest.mark.parametrize(
    ("text", "widths"), [("1-4", (1, 2, 3, 4)), ("3", (3,)), ("1,3,5-7", (1, 3, 5, 6, 7)), ("9,1", (9, 1))]
)
def test_parse_widths(text, widths):
    assert parse_widths(text) == widths


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "0-4", "1.5", "5-3", "1,20-5", "1,,2"])
def test_bad_widths(text):
    with pytest.raises(ValueError, match="widths must be"):
        parse_widths(text)


@pytest.mark.parametrize(
    "jobs", [pytest.param(1, id="in this process"), pytest.param(2, id="two", marks=pytest.mark.slow)]
)
def test_files_count_like_arrays(pairs, all_pairs, jobs):
    expected = BoundaryStatistics(6, [1, 3])
    for pair in all_pairs:
        expected.update(*pair)
    seen = []
    total, bad = count_pairs(pairs, BoundaryStatistics(6, [1, 3]), jobs=jobs, progress=seen.append)
    assert bad == [] and seen == sorted(seen) and seen[-1] == len(pairs)
    for name, values in expected.counts.items():
        np.testing.assert_array_equal(total.counts[name], values)


def test_workers_end_with_the_process_that_started_them(pairs, monkeypatch):
    """That such a process ends with its parent is tested beside `end_with_parent`."""

    class Asked(Exception):
        pass

    def pool(workers, mp_context, initializer):
        raise Asked(workers, initializer)

    monkeypatch.setattr(prediction_folders, "ProcessPoolExecutor", pool)
    with pytest.raises(Asked) as asked:
        count_pairs(pairs, BoundaryStatistics(6, [1]), jobs=2)
    assert asked.value.args[1] is end_with_parent


def test_label_maps_are_applied(tmp_path):
    table = bytes(9 if stored == 0 else stored // 10 for stored in range(256))
    pair = LabelPair(
        write(tmp_path / "a.png", np.uint8([[10, 20]])),
        write(tmp_path / "b.png", np.uint8([[1, 1]])),
        table,
        None,
    )
    total, _ = count_pairs([pair], BoundaryStatistics(3, [1]))
    assert total.counts["confusion"].tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0]]


def spoil(pairs: list[LabelPair]) -> list[str]:
    """Make four of the files unusable in different ways; returns what each message must hold."""
    pairs[0].prediction.write_bytes(pairs[0].prediction.read_bytes()[:60])
    write(pairs[3].prediction, np.zeros((2, 2), np.uint8))
    write(pairs[5].prediction, np.full_like(cv2.imread(str(pairs[5].target), cv2.IMREAD_UNCHANGED)[..., 0], 77))
    write(pairs[9].prediction, np.zeros((4, 5, 3), np.uint8))
    return [
        str(pairs[0].prediction),
        f"{pairs[3].prediction}: the prediction is 2 x 2, but the label {pairs[3].target} is",
        f"{pairs[5].prediction} against {pairs[5].target}: prediction holds ids outside the classes: 77",
        str(pairs[9].prediction),
    ]


def test_bad_file_stops_with_its_name(pairs):
    for expected, index in zip(spoil(pairs), (0, 3, 5, 9), strict=True):
        with pytest.raises(ValueError) as caught:
            count_pairs(pairs[index : index + 1], BoundaryStatistics(6, [1]))
        assert expected in str(caught.value)


def test_bad_files_are_left_out_and_listed(pairs, all_pairs):
    expected = spoil(pairs)
    good = BoundaryStatistics(6, [1, 3])
    for index, pair in enumerate(all_pairs):
        if index not in (0, 3, 5, 9):
            good.update(*pair)
    total, bad = count_pairs(pairs, BoundaryStatistics(6, [1, 3]), skip_bad=True)
    assert len(bad) == 4 and all(part in message for part, message in zip(expected, bad, strict=True))
    assert total.num_images == len(all_pairs) - 4
    for name, values in good.counts.items():
        np.testing.assert_array_equal(total.counts[name], values)


def test_plain_names(tmp_path):
    label = write(tmp_path / "gt" / "a" / "x.png")
    other = write(tmp_path / "gt" / "y.z.png")
    assert find_targets(tmp_path / "gt", cityscapes=False) == {
        "x": (label, "train-id"),
        "y.z": (other, "train-id"),
    }
    prediction = write(tmp_path / "pred" / "deep" / "x.png")
    assert find_predictions(tmp_path / "pred", ["x", "y.z"], cityscapes=False) == ({"x": prediction}, ["y.z"])


def test_endings_of_any_case_and_companions_of_macos(tmp_path):
    gt, pred = tmp_path / "gt", tmp_path / "pred"
    label, prediction = write(gt / "x.PNG"), write(pred / "x.Png")
    for folder in (gt, pred):
        (folder / "._x.png").write_bytes(b"resource fork")
    assert find_targets(gt, cityscapes=False) == {"x": (label, "train-id")}
    assert find_predictions(pred, ["x"], cityscapes=False) == ({"x": prediction}, [])


def test_cityscapes_names(tmp_path):
    gt, pred = tmp_path / "gt", tmp_path / "pred"
    frames = ["aachen_000000_000019", "bonn_000001_000019", "ulm_000002_000019"]
    train_ids = write(gt / "aachen" / f"{frames[0]}_gtFine_labelTrainIds.png")
    write(gt / "aachen" / f"{frames[0]}_gtFine_labelIds.png")
    write(gt / "aachen" / f"{frames[0]}_gtFine_instanceIds.png")
    label_ids = write(gt / "bonn" / f"{frames[1]}_gtFine_labelIds.png")
    coarse = write(gt / "ulm" / f"{frames[2]}_gtCoarse_labelIds.png")
    assert find_targets(gt, cityscapes=True) == {
        frames[0]: (train_ids, "train-id"),
        frames[1]: (label_ids, "label-id"),
        frames[2]: (coarse, "label-id"),
    }
    files = [
        write(pred / "val" / f"{frames[0]}_leftImg8bit.png"),
        write(pred / f"{frames[1]}_gtFine_labelIds.png"),
        write(pred / f"{frames[2]}.png"),
    ]
    found, missing = find_predictions(pred, [*frames, "rom_000000_000000"], cityscapes=True)
    assert found == dict(zip(frames, files, strict=True)) and missing == ["rom_000000_000000"]


def test_ambiguous_names(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "x.png")
    with pytest.raises(ValueError, match=r"two label files for x: .*a.x.png and .*b.x.png"):
        find_targets(tmp_path, cityscapes=False)
    with pytest.raises(ValueError, match=r"two predictions for x: .*a.x.png and .*b.x.png"):
        find_predictions(tmp_path, ["x"], cityscapes=False)


def test_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        find_targets(tmp_path / "nowhere", cityscapes=False)
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        find_predictions(tmp_path / "nowhere", [], cityscapes=False)
    with pytest.raises(ValueError, match=r"no label files \(\*_labelTrainIds.png or \*_labelIds.png\)"):
        find_targets(tmp_path, cityscapes=True)


def test_distinct_names():
    assert distinct_names([Path("/out/a/inference")]) == ["inference"]
    assert distinct_names([Path("/out/a/inference"), Path("/out/b/inference")]) == ["a", "b"]
    assert distinct_names([Path("/out/a/x/p"), Path("/out/b/p")]) == ["a/x", "b"]
    assert distinct_names([Path("/out/a"), Path("/out/a/b")]) == ["a", "b"]
    assert distinct_names([Path("/out/a/a"), Path("/out/a")]) == ["a/a", "a"]
    with pytest.raises(ValueError, match="given twice"):
        distinct_names([Path("/out/a"), Path("/out/a")])
