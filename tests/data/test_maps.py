"""The loader computes the maps that the config names, and those that its losses need."""

import pickle

import numpy as np
import pytest

from epl_d2 import get_cfg
from epl_d2.contours import contour_distance, signed_distance
from epl_d2.data.dataset_mapper import SemSegDatasetMapper
from epl_d2.data.maps import build_maps


def config(**weights: float):
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SIZE = True, [24, 32]
    for loss, weight in weights.items():
        cfg.MODEL.EXTRA_LOSSES[loss].WEIGHT = weight
    return cfg


def test_losses_bring_their_maps():
    assert build_maps(config(GENERALIZED_DICE=1.0, LOVASZ=1.0)) == []
    assert [m.name for m in build_maps(config(BOUNDARY=0.01))] == ["signed_distance"]
    assert [m.name for m in build_maps(config(ACTIVE_BOUNDARY=1.0))] == ["contour_distance"]
    cfg = config(BOUNDARY=0.01, ACTIVE_BOUNDARY=1.0)
    cfg.INPUT.MAPS = ["contour_distance"]
    assert [m.name for m in build_maps(cfg)] == ["contour_distance", "signed_distance"]


def test_maps_are_those_of_the_augmented_label(pairs):
    mapper = SemSegDatasetMapper(config(BOUNDARY=0.01, ACTIVE_BOUNDARY=1.0), True)
    sample = mapper(pairs(1)[0])
    label = sample["sem_seg"].numpy()
    assert label.shape == (24, 32)
    np.testing.assert_array_equal(sample["maps"]["signed_distance"], signed_distance(label, 3))
    np.testing.assert_array_equal(sample["maps"]["contour_distance"], contour_distance(label))


def test_inference_needs_none(pairs):
    assert "maps" not in SemSegDatasetMapper(config(BOUNDARY=0.01), False)(pairs(1)[0])


def test_maps_travel_to_workers_that_are_spawned():
    label = np.eye(5, dtype=np.uint8)
    for image_map in build_maps(config(BOUNDARY=0.01, ACTIVE_BOUNDARY=1.0)):
        copy = pickle.loads(pickle.dumps(image_map))
        np.testing.assert_array_equal(copy.compute(None, label), image_map.compute(None, label))


def test_unknown_names_are_refused():
    cfg = config()
    cfg.INPUT.MAPS = ["depth"]
    with pytest.raises(ValueError, match=r"INPUT\.MAPS holds 'depth'; it may hold .*contour_distance.*signed_distance"):
        build_maps(cfg)
