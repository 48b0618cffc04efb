"""GSCNN's edge maps against their definitions: distance transforms a class, and byte arithmetic a pixel."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from epl_d2 import get_cfg
from epl_d2.contours.edges import canny_edges, canny_of_normalized, label_edges
from epl_d2.data.maps import build_maps

MEAN, STD = (123.675, 116.280, 103.530), (58.395, 57.120, 57.375)


def edges_by_distance_transform(labels: np.ndarray, classes: range) -> np.ndarray:
    """A class at a time: distance to its complement plus distance to it, in a frame of one pixel."""
    edges = np.zeros(labels.shape, np.uint8)
    for class_id in classes:
        mask = np.pad(labels == class_id, 1)
        if not mask.any():
            continue
        distance = distance_transform_edt(mask) + distance_transform_edt(~mask)
        edges |= ((distance > 0) & (distance <= 2)).astype(np.uint8)[1:-1, 1:-1]
    return edges


def random_labels(rng: np.random.Generator, size: tuple[int, int], cell: int) -> np.ndarray:
    coarse = rng.choice(np.array([0, 0, 1, 2, 3, 255], np.uint8), (size[0] // cell + 1, size[1] // cell + 1))
    return cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_NEAREST)[: size[0], : size[1]]


@pytest.mark.parametrize("all_classes", [False, True])
@pytest.mark.parametrize("cell", [1, 4, 9, 40])
@pytest.mark.parametrize("size", [(37, 51), (1, 7), (2, 2), (30, 3)])
def test_label_edges_are_those_of_a_distance_transform_a_class(size, cell, all_classes):
    rng = np.random.default_rng(cell)
    for _ in range(10):
        labels = random_labels(rng, size, cell)
        expected = edges_by_distance_transform(labels, range(0 if all_classes else 1, 4))
        edges = label_edges(labels, all_classes=all_classes)
        assert edges.dtype == np.uint8
        np.testing.assert_array_equal(edges, expected)


def test_image_border_is_a_contour_of_every_class_but_0():
    frame = np.pad(np.zeros((6, 5), np.uint8), 2, constant_values=1)
    np.testing.assert_array_equal(label_edges(np.full((10, 9), 3, np.uint8)), frame)
    assert not label_edges(np.zeros((10, 9), np.uint8)).any()
    np.testing.assert_array_equal(label_edges(np.zeros((10, 9), np.uint8), all_classes=True), frame)
    assert not label_edges(np.full((10, 9), 255, np.uint8), all_classes=True).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_another_ignore_value_and_other_types(dtype):
    labels = random_labels(np.random.default_rng(0), (40, 40), 7)
    ignored_as_99 = np.where(labels == 255, 99, labels).astype(dtype)
    np.testing.assert_array_equal(label_edges(ignored_as_99, ignore_value=99), label_edges(labels))


def test_canny_sees_the_normalized_picture_as_bytes_that_wrap():
    rng = np.random.default_rng(1)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), (7, 7), 0)
    picture[10:20, 10:30] = 0
    normalized = (picture.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    as_bytes = np.array([int(value) % 256 for value in normalized.ravel()], np.uint8).reshape(picture.shape)
    assert set(np.unique(as_bytes)) <= {0, 1, 2, 254, 255}
    expected = cv2.Canny(as_bytes, 10, 100)
    assert 0 < (expected == 255).mean() < 0.5
    np.testing.assert_array_equal(canny_of_normalized(normalized), expected[None])
    np.testing.assert_array_equal(canny_edges(picture, MEAN, STD), expected[None])


def test_the_loader_computes_them_by_the_config():
    cfg = get_cfg()
    cfg.INPUT.MAPS = ["canny", "edges"]
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = list(MEAN), list(STD)
    cfg.MODEL.GSCNN.EDGES_OF_ALL_CLASSES = True
    canny, edges = build_maps(cfg)
    assert (canny.name, canny.needs_label) == ("canny", False)
    assert (edges.name, edges.needs_label) == ("edges", True)
    picture = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    labels = random_labels(np.random.default_rng(3), (20, 30), 6)
    np.testing.assert_array_equal(canny.compute(picture, None), canny_edges(picture, MEAN, STD))
    np.testing.assert_array_equal(edges.compute(picture, labels), label_edges(labels, all_classes=True))
