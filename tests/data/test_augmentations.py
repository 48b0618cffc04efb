import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform

from epl_d2.data.augmentations import (
    CropWithPadding,
    FusedAugmentation,
    RandomColorJitter,
    RandomGaussianBlur,
    RandomHorizontalFlip,
    RandomRotation,
    RandomScale,
)
from epl_d2.data.transforms import BlurTransform

FILLS = ((124.0, 116.0, 104.0), 255)


@pytest.fixture(autouse=True)
def _seed():
    np.random.seed(0)


def test_scale_draws_from_its_range():
    image = np.zeros((100, 200, 3), np.uint8)
    scale = RandomScale((0.5, 2.0), "uniform", *FILLS)
    heights = np.array([scale.get_transform(image).out_size for _ in range(400)])
    assert heights[:, 0].min() in range(50, 54) and heights[:, 0].max() in range(196, 201)
    assert abs(heights[:, 0].mean() - 125) < 7
    assert np.abs(heights[:, 1] - 2 * heights[:, 0]).max() <= 1
    choice = RandomScale((0.7, 1.4), "choice", *FILLS)
    assert {choice.get_transform(image).out_size for _ in range(50)} == {(70, 140), (140, 280)}


def test_rotation_turns_around_the_center_and_fills():
    image = np.full((60, 80, 3), 7, np.uint8)
    rotation = RandomRotation(10, 1.0, *FILLS)
    angles = []
    for _ in range(300):
        turn = rotation.get_transform(image)
        np.testing.assert_allclose(turn.apply_coords(np.array([[40.0, 30.0]])), [[40, 30]])
        east = turn.apply_coords(np.array([[41.0, 30.0]]))[0] - (40, 30)
        angles.append(np.degrees(np.arctan2(-east[1], east[0])))
        assert turn.out_size == (60, 80)
    assert -10 <= min(angles) < -9 and 9 < max(angles) <= 10 and abs(np.mean(angles)) < 1
    turned = turn.apply_image(image)
    assert tuple(turned[0, 0]) == FILLS[0] or tuple(turned[0, -1]) == FILLS[0]
    seldom = RandomRotation(10, 0.5, *FILLS)
    share = np.mean([isinstance(seldom.get_transform(image), NoOpTransform) for _ in range(400)])
    assert 0.42 < share < 0.58


def test_crop_covers_all_positions_and_pads():
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    crop = CropWithPadding((4, 4), *FILLS)
    seen = {crop.get_transform(image).apply_image(image).tobytes() for _ in range(200)}
    assert seen == {image[y : y + 4, x : x + 4].tobytes() for y in range(2) for x in range(3)}

    centered = CropWithPadding((9, 6), *FILLS).get_transform(image)
    assert np.flatnonzero(centered.apply_segmentation(image[:, :, 0]) != 255).size == 30
    np.testing.assert_array_equal(centered.apply_image(image)[2:7], image)
    corner = CropWithPadding((9, 8), *FILLS, padding="right_bottom").get_transform(image)
    np.testing.assert_array_equal(corner.apply_image(image)[:5, :6], image)
    assert (corner.apply_segmentation(image[:, :, 0])[5:] == 255).all()


def test_blur_and_flip_probability():
    image = np.zeros((8, 8, 3), np.uint8)
    blur = RandomGaussianBlur(0.5, (0.2, 1.0))
    drawn = [blur.get_transform(image) for _ in range(400)]
    sigmas = [t.sigma for t in drawn if isinstance(t, BlurTransform)]
    assert 160 < len(sigmas) < 240 and 0.2 <= min(sigmas) < 0.25 and 0.95 < max(sigmas) <= 1
    flips = sum(not isinstance(RandomHorizontalFlip().get_transform(image), NoOpTransform) for _ in range(400))
    assert 160 < flips < 240


def test_jitter_draws_from_its_ranges():
    image = np.zeros((8, 8, 3), np.uint8)
    drawn = [RandomColorJitter(0.25, 0.5, 2.0, 0.1).get_transform(image) for _ in range(300)]
    assert min(t.brightness for t in drawn) >= 0.75 and max(t.brightness for t in drawn) <= 1.25
    assert 0.5 <= min(t.contrast for t in drawn) < 0.55
    assert min(t.saturation for t in drawn) >= 0 and 2.8 < max(t.saturation for t in drawn) <= 3
    assert -0.1 <= min(t.hue for t in drawn) < -0.08


def build_steps() -> list:
    return [
        RandomScale((0.5, 2.0), "uniform", *FILLS),
        RandomRotation(10, 0.5, *FILLS),
        RandomHorizontalFlip(),
        CropWithPadding((48, 64), *FILLS),
    ]


def test_fused_warp_samples_where_the_single_steps_do(rng):
    """The same draws, one after the other or fused, give the same geometry; and the same pixels where nothing
    is turned, for then the single steps resample only once as well. A center halfway between two pixels of the
    input may take either, which depends on the rounding and with it on OpenCV's version."""
    image = cv2.GaussianBlur(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8), (7, 7), 2)
    label = (image[:, :, 0] // 64).astype(np.uint8)
    centers = np.stack(np.meshgrid(np.arange(64), np.arange(48)), axis=-1).reshape(-1, 2) + 0.5
    unturned = 0
    for seed in range(30):
        np.random.seed(seed)
        single = T.AugInput(image, sem_seg=label)
        steps = T.AugmentationList(build_steps())(single)
        np.random.seed(seed)
        fused = T.AugInput(image, sem_seg=label)
        warp = FusedAugmentation(build_steps(), *FILLS)(fused)
        points = rng.uniform(0, 60, (20, 2))
        np.testing.assert_allclose(warp.apply_coords(points), steps.apply_coords(points.copy()), atol=1e-9)
        assert fused.image.shape == (48, 64, 3) and fused.sem_seg.shape == (48, 64)
        if warp.matrix[0, 1] == 0:
            unturned += 1
            seen = warp.inverse().apply_coords(centers)
            halfway = (np.abs(seen - seen.round()) < 1e-6).any(axis=1).reshape(48, 64)
            np.testing.assert_array_equal(fused.sem_seg[~halfway], single.sem_seg[~halfway])
            assert halfway.mean() < 0.5
            assert np.abs(fused.image.astype(int) - single.image).max() <= 1
    assert unturned >= 8


def test_fusing_nothing_does_nothing():
    image = np.zeros((8, 8, 3), np.uint8)
    fused = FusedAugmentation([RandomRotation(10, 0.0, *FILLS)], *FILLS)
    assert isinstance(fused.get_transform(image), NoOpTransform)
    with pytest.raises(TypeError, match="BlurTransform"):
        FusedAugmentation([RandomGaussianBlur(1.0, (1, 1))], *FILLS).get_transform(image)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomScale((2.0, 0.5), "uniform", *FILLS), r"scale values.*\(2.0, 0.5\)"),
        (lambda: RandomScale((0.0, 1.0), "uniform", *FILLS), "scale values"),
        (lambda: RandomScale((), "choice", *FILLS), "scale values"),
        (lambda: RandomScale((1, 2), "normal", *FILLS), "normal"),
        (lambda: RandomRotation(-1, 0.5, *FILLS), "degrees is -1"),
        (lambda: RandomRotation(10, 1.5, *FILLS), "rotation probability is 1.5"),
        (lambda: RandomHorizontalFlip(-0.1), "flip probability"),
        (lambda: CropWithPadding((0, 5), *FILLS), r"crop size is \(0, 5\)"),
        (lambda: CropWithPadding((5, 5), *FILLS, padding="left"), "left"),
        (lambda: RandomGaussianBlur(0.5, (1, 1), 4), "kernel size is 4"),
        (lambda: RandomGaussianBlur(0.5, (2, 1)), "sigma"),
        (lambda: RandomColorJitter(0.1, 0.1, 0.1, 0.6), "color jitter"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
