import cv2
import numpy as np
import pytest

from epl_d2.data.transforms import BlurTransform, ColorJitterTransform, WarpTransform

FILL = (10.0, 120.4, 200.6)


def affine(angle: float, scale: float, shift: tuple[float, float], mirror: bool = False) -> np.ndarray:
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.array([[cos, sin, shift[0]], [-sin, cos, shift[1]]])
    return matrix @ np.diag([-1.0, 1, 1]) if mirror else matrix


CASES = [
    affine(0.0, 1.0, (0, 0)),
    affine(0.0, 1.0, (-7, 5)),
    affine(0.0, 0.6, (4, 9)),
    affine(0.0, 1.7, (-20, -11)),
    affine(0.15, 1.0, (2, 6)),
    affine(-0.4, 1.4, (-9.3, 3.8)),
    affine(0.3, 0.7, (30, 1), mirror=True),
    affine(0.2, 1.0, (500, 0)),
]


def sample_by_hand(image: np.ndarray, label: np.ndarray, matrix: np.ndarray, out_size) -> tuple:
    """The definition, one pixel after the other; also the distance of every sample to a decision."""
    height, width = label.shape
    backward = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    out_image = np.zeros((*out_size, 3))
    out_label = np.zeros(out_size, dtype=label.dtype)
    margin = np.zeros(out_size)
    for y, x in np.ndindex(*out_size):
        sx, sy, _ = backward @ (x + 0.5, y + 0.5, 1)
        to_frame = min(abs(sx), abs(sy), abs(sx - width), abs(sy - height))
        margin[y, x] = min(to_frame, abs(sx - round(sx)), abs(sy - round(sy)))
        if not (0 <= sx < width and 0 <= sy < height):
            out_image[y, x], out_label[y, x] = FILL, 255
            continue
        out_label[y, x] = label[int(sy), int(sx)]
        fx, fy = sx - 0.5, sy - 0.5
        x0, y0 = int(np.floor(fx)), int(np.floor(fy))
        for dy, dx in np.ndindex(2, 2):
            weight = (1 - abs(fx - x0 - dx)) * (1 - abs(fy - y0 - dy))
            row, column = np.clip(y0 + dy, 0, height - 1), np.clip(x0 + dx, 0, width - 1)
            out_image[y, x] += weight * image[row, column]
    return out_image, out_label, margin


@pytest.mark.parametrize("matrix", CASES)
def test_warp_equals_its_definition(rng, matrix):
    # smooth, so that OpenCV's rounding of positions to 1/32 pixel stays small
    image = cv2.GaussianBlur(rng.integers(0, 256, (31, 37, 3), dtype=np.uint8), (7, 7), 2)
    label = rng.choice([0, 1, 2, 15, 20, 255], (31, 37)).astype(np.uint8)
    warp = WarpTransform(matrix, (31, 37), (29, 41), FILL, 255)
    expected_image, expected_label, margin = sample_by_hand(image, label, matrix, (29, 41))
    clear = margin > 2e-3
    assert clear.mean() > 0.6
    np.testing.assert_array_equal(warp.apply_segmentation(label)[clear], expected_label[clear])
    result = warp.apply_image(image)
    assert result.dtype == np.uint8
    assert np.abs(result.astype(float) - expected_image)[clear].max() < 3
    as_float = warp.apply_image(image.astype(np.float32))
    assert as_float.dtype == np.float32
    assert np.abs(as_float - expected_image)[clear].max() < 3


@pytest.mark.parametrize("matrix", CASES)
def test_image_and_label_are_filled_at_the_same_pixels(matrix):
    warp = WarpTransform(matrix, (31, 37), (29, 41), FILL, 255)
    filled = (warp.apply_image(np.zeros((31, 37, 3), np.uint8)) == np.rint(FILL)).all(axis=2)
    untouched = (warp.apply_image(np.zeros((31, 37, 3), np.uint8)) == 0).all(axis=2)
    assert (filled | untouched).all(), "fill and image are mixed"
    ignored = warp.apply_segmentation(np.zeros((31, 37), np.uint8)) == 255
    np.testing.assert_array_equal(filled, ignored)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("matrix", CASES)
def test_no_label_appears_that_was_not_there(rng, matrix, dtype):
    values = [3, 200] if dtype == np.uint8 else [3, 30_000]
    label = rng.choice(values, (31, 37)).astype(dtype)
    result = WarpTransform(matrix, (31, 37), (29, 41), FILL, 255).apply_segmentation(label)
    assert result.dtype == dtype
    assert set(np.unique(result)) <= {*values, 255}


def test_scaling_equals_a_resize(rng):
    image = cv2.GaussianBlur(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8), (5, 5), 1)
    warp = WarpTransform(np.array([[1.5, 0, 0], [0, 1.5, 0]]), (40, 60), (60, 90), FILL, 255)
    difference = warp.apply_image(image).astype(int) - cv2.resize(image, (90, 60)).astype(int)
    assert np.abs(difference).max() <= 2


def test_shift_and_mirror_are_exact(rng):
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    label = image[:, :, 0]
    mirror = WarpTransform(np.array([[-1.0, 0, 30], [0, 1, 0]]), (20, 30), (20, 30), FILL, 255)
    np.testing.assert_array_equal(mirror.apply_image(image), image[:, ::-1])
    np.testing.assert_array_equal(mirror.apply_segmentation(label), label[:, ::-1])
    crop = WarpTransform(np.array([[1.0, 0, -4], [0, 1, -3]]), (20, 30), (9, 11), FILL, 255)
    np.testing.assert_array_equal(crop.apply_image(image), image[3:12, 4:15])
    padded = WarpTransform(np.array([[1.0, 0, 2], [0, 1, 1]]), (20, 30), (24, 33), FILL, 255).apply_image(image)
    np.testing.assert_array_equal(padded[1:21, 2:32], image)
    np.testing.assert_array_equal(padded[0, 0], np.rint(FILL))
    np.testing.assert_array_equal(padded[-1, -1], np.rint(FILL))


def test_gray_images_are_filled_too():
    warp = WarpTransform(affine(0.2, 0.5, (3, 3)), (10, 10), (16, 16), (50.0,), 255)
    assert set(np.unique(warp.apply_image(np.zeros((10, 10), np.uint8)))) == {0, 50}


def test_composition_and_inverse_move_points_alike(rng):
    first = WarpTransform(affine(0.2, 1.3, (4, -3)), (31, 37), (50, 60), FILL, 255)
    second = WarpTransform(affine(-0.5, 0.8, (1, 9)), (50, 60), (20, 25), FILL, 255)
    points = rng.uniform(0, 30, (8, 2))
    both = first.then(second)
    np.testing.assert_allclose(both.apply_coords(points), second.apply_coords(first.apply_coords(points)))
    np.testing.assert_allclose(both.inverse().apply_coords(both.apply_coords(points)), points)
    assert (both.in_size, both.out_size) == ((31, 37), (20, 25))


def test_warp_refuses_other_sizes():
    warp = WarpTransform(CASES[0], (31, 37), (31, 37), FILL, 255)
    with pytest.raises(ValueError, match=r"\(31, 37\).*\(30, 37\)"):
        warp.apply_segmentation(np.zeros((30, 37), np.uint8))


def test_label_fill_must_fit():
    warp = WarpTransform(CASES[0], (31, 37), (31, 37), FILL, -100)
    with pytest.raises(ValueError, match="-100 does not fit into uint8"):
        warp.apply_segmentation(np.zeros((31, 37), np.uint8))


def test_blur_is_a_gaussian_and_leaves_labels():
    image = np.zeros((21, 21, 3), dtype=np.float32)
    image[10, 10] = 1
    weights = np.exp(-0.5 * (np.arange(-2, 3) / 1.1) ** 2)
    weights /= weights.sum()
    blurred = BlurTransform(1.1, 5).apply_image(image)
    np.testing.assert_allclose(blurred[8:13, 8:13, 1], np.outer(weights, weights), atol=1e-6)
    assert blurred.sum() == pytest.approx(3, abs=1e-5)
    label = np.arange(9, dtype=np.uint8).reshape(3, 3)
    assert BlurTransform(1.1, 5).apply_segmentation(label) is label


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_color_jitter(rng, order):
    image = rng.integers(0, 256, (12, 13, 3), dtype=np.uint8)
    neutral = ColorJitterTransform(1, 1, 1, 0, order).apply_image(image)
    assert np.abs(neutral.astype(int) - image).max() <= 6  # 8-bit HSV rounds
    darker = ColorJitterTransform(0.5, 1, 1, 0, order).apply_image(image)
    assert np.abs(darker - image / 2).max() <= 5
    gray = ColorJitterTransform(1, 1, 0, 0, order).apply_image(image).astype(int)
    assert np.ptp(gray, axis=2).max() <= 1
    weights = np.array([0.299, 0.587, 0.114])[:: 1 if order == "RGB" else -1]
    assert np.abs(gray[:, :, 0] - image @ weights).max() <= 2
    flat = ColorJitterTransform(1, 0, 1, 0, order).apply_image(image)
    assert np.ptp(flat) <= 1
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0 if order == "RGB" else 2] = 200
    green = ColorJitterTransform(1, 1, 1, 1 / 3, order).apply_image(red)
    np.testing.assert_array_equal(green, np.tile(np.array([0, 200, 0], np.uint8), (2, 2, 1)))
