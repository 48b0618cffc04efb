import numpy as np
import pytest
from PIL import Image

from epl_d2.data.label_check import describe, inspect_record, summarize


def test_counts_agree_with_a_loop(pairs):
    record = pairs(1)[0]
    label = np.asarray(Image.open(record["sem_seg_file_name"])).astype(int)
    report = inspect_record(record, 3, 255)
    assert report.error == "" and not report.empty
    assert report.pixels.tolist() == [(label == i).sum() for i in (0, 1, 2, 255)]
    changes = 0
    for y, x in np.ndindex(label.shape):
        block = label[y : y + 2, x : x + 2]
        changes += (block != 255).all() and len(np.unique(block)) > 1
    assert report.contour_pixels == changes


def test_summary_adds_up_and_keeps_errors(pairs, tmp_path, save):
    records = pairs(4, classes=2)
    save(tmp_path / "labels" / "1.png", np.full((40, 56), 255, np.uint8))
    save(tmp_path / "labels" / "2.png", np.full((40, 56), 37, np.uint8))
    summary = summarize([inspect_record(record, 3, 255) for record in records], 3)
    assert (summary.images, summary.empty, len(summary.errors)) == (4, 1, 1)
    assert "2.png: label ids [37], expected 0..2 or 255" in summary.errors[0]
    assert summary.pixels.sum() == 3 * 40 * 56 and summary.pixels[3] == 2 * 15 + 40 * 56
    assert summary.images_with.tolist() == [2, 2, 0]
    assert summary.classes_per_image.tolist() == [1, 0, 2, 0]
    text = describe(summary, ["sky", "road", "tree"])
    assert f"{summary.pixels[1]:,}" in text and "usable: 3, without any label: 1" in text
    assert "0: 1, 2: 2" in text


def test_nothing_usable_is_described(pairs):
    record = pairs(1)[0]
    del record["sem_seg_file_name"]
    summary = summarize([inspect_record(record, 2, 255)], 2)
    assert "there is no label map" in summary.errors[0]
    assert "usable: 0" in describe(summary, ["a", "b"])


@pytest.mark.parametrize("damaged", ["file_name", "sem_seg_file_name"])
def test_unreadable_files_are_reported(pairs, damaged):
    record = pairs(1)[0]
    with open(record[damaged], "wb") as file:
        file.write(b"damaged")
    assert record[damaged] in inspect_record(record, 3, 255).error


def test_sizes_are_compared(pairs, tmp_path, save):
    record = pairs(1)[0]
    save(tmp_path / "labels" / "0.png", np.zeros((20, 28), np.uint8))
    assert "28 x 20, its image is 56 x 40" in inspect_record(record, 3, 255).error
