from pathlib import Path

import numpy as np
import pytest
from detectron2.data import transforms as T

from epl_d2 import get_cfg
from epl_d2.data.augmentation_recipe import build_test_augmentations, build_train_augmentations
from epl_d2.data.augmentations import (
    CropWithPadding,
    FusedAugmentation,
    RandomColorJitter,
    RandomGaussianBlur,
    RandomHorizontalFlip,
    RandomRotation,
    RandomScale,
    ResizeShortestEdge,
)

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.SIZE = [33, 49]
    return cfg


def test_default_is_the_papers_recipe(cfg):
    fused, blur = build_train_augmentations(cfg)
    scale, rotation, flip, crop = fused.augmentations
    assert isinstance(scale, RandomScale) and (scale.values, scale.sampling) == ((0.5, 2.0), "uniform")
    assert isinstance(rotation, RandomRotation) and (rotation.degrees, rotation.prob) == (10.0, 0.5)
    assert isinstance(flip, RandomHorizontalFlip) and flip.prob == 0.5
    assert isinstance(crop, CropWithPadding) and (crop.size, crop.padding) == ((33, 49), "center")
    assert isinstance(blur, RandomGaussianBlur) and (blur.prob, blur.kernel_size) == (0.5, 5)
    assert fused.image_fill == crop.image_fill == tuple(cfg.MODEL.PIXEL_MEAN)
    assert fused.label_fill == crop.label_fill == cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE


def test_shortest_edge_stays_a_step_of_its_own(cfg):
    cfg.INPUT.AUGMENTATIONS = ["flip", "shortest_edge", "crop", "blur"]
    cfg.INPUT.MIN_SIZE_TRAIN = (20, 40)
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    kinds = [type(step) for step in build_train_augmentations(cfg)]
    assert kinds == [FusedAugmentation, ResizeShortestEdge, FusedAugmentation, RandomGaussianBlur]


def test_color_jitter_knows_the_channel_order(cfg):
    cfg.INPUT.AUGMENTATIONS = ["crop", "color_jitter"]
    cfg.INPUT.FORMAT = "BGR"
    jitter = build_train_augmentations(cfg)[1]
    assert isinstance(jitter, RandomColorJitter) and jitter.image_format == "BGR" and jitter.hue == 0.25


def test_switches_leave_steps_out(cfg):
    cfg.INPUT.AUGMENTATIONS = ["flip", "crop"]
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.CROP.ENABLED = False
    assert build_train_augmentations(cfg) == []


@pytest.mark.parametrize("steps", [["scale", "crop"], ["scale", "rotate", "blur", "flip", "crop", "color_jitter"]])
@pytest.mark.parametrize("size", [(20, 30), (33, 49), (200, 90)])
def test_every_sample_has_the_size_of_the_crop(cfg, rng, steps, size):
    cfg.INPUT.AUGMENTATIONS = steps
    augmentations = T.AugmentationList(build_train_augmentations(cfg))
    for _ in range(5):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        sample = T.AugInput(image, sem_seg=image[:, :, 0] % 3)
        augmentations(sample)
        assert sample.image.shape == (33, 49, 3) and sample.sem_seg.shape == (33, 49)
        assert set(np.unique(sample.sem_seg)) <= {0, 1, 2, 255}


def test_test_images_are_resized_on_request_only(cfg):
    assert build_test_augmentations(cfg) == []
    cfg.INPUT.MIN_SIZE_TEST = 50
    (resize,) = build_test_augmentations(cfg)
    assert resize.get_transform(np.zeros((100, 200, 3), np.uint8)).new_h == 50


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("is_train", [False, True])
def test_a_thin_picture_keeps_a_pixel(cfg, is_train, turned):
    if is_train:
        cfg.INPUT.AUGMENTATIONS, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = ["shortest_edge"], (50,), 100
    else:
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 50, 100
    augmentations = T.AugmentationList((build_train_augmentations if is_train else build_test_augmentations)(cfg))
    image = np.full((3000, 2, 3) if turned else (2, 3000, 3), 77, np.uint8)
    sample = T.AugInput(image, sem_seg=image[:, :, 0])
    augmentations(sample)
    assert sample.sem_seg.shape == ((100, 1) if turned else (1, 100))
    assert sample.image.shape == (*sample.sem_seg.shape, 3)
    assert (sample.image == 77).all() and (sample.sem_seg == 77).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.AUGMENTATIONS", ["scale", "shear"], "INPUT.AUGMENTATIONS.*'shear'.*'rotate'"),
        ("INPUT.SCALE.SAMPLING", "normal", "'scale'.*'normal'"),
        ("INPUT.ROTATE.PROB", 2.0, "'rotate'.*2.0"),
        ("INPUT.BLUR.KERNEL_SIZE", 4, "'blur'.*4"),
        ("INPUT.RANDOM_FLIP", "vertical", "INPUT.RANDOM_FLIP is 'vertical'"),
        ("INPUT.CROP.TYPE", "relative", "INPUT.CROP.TYPE is 'relative'"),
        ("INPUT.CROP.PAD", "left", "'crop'.*'left'"),
    ],
)
def test_bad_settings_name_the_key(cfg, key, value, message):
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_train_augmentations(cfg)


RECIPES = sorted(CONFIGS.glob("Base-Augmentation-*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_work(rng, tmp_path, recipe):
    model = CONFIGS / "Cityscapes" / "deeplab_v3_plus_R_50_os16.yaml"
    (tmp_path / "both.yaml").write_text(f'_BASE_: ["{model}", "{recipe}"]\n')
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "both.yaml"))
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 19
    image = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    sample = T.AugInput(image, sem_seg=image[:, :, 0] % 3)
    T.AugmentationList(build_train_augmentations(cfg))(sample)
    assert list(sample.image.shape[:2]) == list(sample.sem_seg.shape) == cfg.INPUT.CROP.SIZE


def test_all_recipes_are_tested():
    assert len(RECIPES) == 4


def test_the_default_is_the_papers_recipe():
    default, recipe = get_cfg(), get_cfg()
    recipe.merge_from_file(str(CONFIGS / "Base-Augmentation-Semseg.yaml"))
    default.INPUT.CROP.ENABLED, default.INPUT.CROP.SIZE = True, recipe.INPUT.CROP.SIZE
    assert default.INPUT == recipe.INPUT
    default.INPUT.CROP.ENABLED = recipe.INPUT.CROP.ENABLED = False
    assert repr(build_train_augmentations(recipe)) == repr(build_train_augmentations(default))
