"""Test-time protocols against a literal version: one window at a time, cv2 for every resize, sums in float64."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, SemanticSegmentor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from epl_d2 import get_cfg
from epl_d2.modeling import EPLSemanticSegmentor, SemanticSegmentorWithTTA, with_test_time_protocol
from epl_d2.modeling.meta_arch.sliding_window import (
    WindowProtocol,
    average_scales,
    average_windows,
    scaled_size,
    window_starts,
)

K = 5
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
MEAN, STD = [123.675, 116.280, 103.530], [58.395, 57.120, 57.375]


class TinyBackbone(Backbone):
    """Strided features, so that a result depends on where a window begins and on what surrounds it."""

    size_divisibility = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=4, padding=2)

    def forward(self, image):
        assert image.shape[-2] % 4 == 0 and image.shape[-1] % 4 == 0
        return {"res": self.conv(image).relu()}

    def output_shape(self):
        return {"res": ShapeSpec(channels=8, stride=4)}


class TinyHead(nn.Module):
    ignore_value = 255

    def __init__(self):
        super().__init__()
        self.predictor = nn.Conv2d(8, K, 3, padding=1)

    def forward(self, features, targets=None):
        return F.interpolate(self.predictor(features["res"]), scale_factor=4, mode="bilinear"), {}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    segmentor = EPLSemanticSegmentor(
        backbone=TinyBackbone(), sem_seg_head=TinyHead(), pixel_mean=MEAN, pixel_std=STD
    ).eval()
    for parameter in segmentor.parameters():
        nn.init.normal_(parameter, std=0.2)
    return segmentor


def picture(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 * height + width)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def literal_logits(model, crop: np.ndarray) -> np.ndarray:
    """[h, w, 3] normalized -> [h, w, K]: padded at the right and bottom to the backbone's divisor, cut again."""
    h, w = crop.shape[:2]
    padded = cv2.copyMakeBorder(crop, 0, -h % 4, 0, -w % 4, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    with torch.no_grad():
        logits = model.predict(torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()))[0]
    return logits.numpy().transpose(1, 2, 0)[:h, :w].astype(np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=2, keepdims=True))
    return exponentials / exponentials.sum(axis=2, keepdims=True)


def literal(model, image, size, *, scales=(1.0,), base_size=0, window=None, fraction=2 / 3, flip=False):
    """Probabilities [K, *size] of uint8 [3, H, W], as the loops of the reference evaluation compute them."""
    normalized = ((image.numpy().transpose(1, 2, 0) - np.array(MEAN)) / np.array(STD)).astype(np.float32)
    height, width = normalized.shape[:2]
    total = np.zeros((*size, K))
    for scale in scales:
        long_side = max(1, round(scale * (base_size or max(height, width))))
        new_h = new_w = long_side
        if height > width:
            new_w = max(1, round(long_side / float(height) * width))
        else:
            new_h = max(1, round(long_side / float(width) * height))
        scaled = cv2.resize(normalized, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        h, w = window or (new_h, new_w)
        pad_h, pad_w = max(h - new_h, 0), max(w - new_w, 0)
        top, left = pad_h // 2, pad_w // 2
        scaled = cv2.copyMakeBorder(scaled, top, pad_h - top, left, pad_w - left, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        full_h, full_w = scaled.shape[:2]
        step_h, step_w = int(np.ceil(h * fraction)), int(np.ceil(w * fraction))
        summed, count = np.zeros((full_h, full_w, K)), np.zeros((full_h, full_w, 1))
        for row in range(int(np.ceil((full_h - h) / step_h)) + 1):
            for column in range(int(np.ceil((full_w - w) / step_w)) + 1):
                end_y, end_x = min(row * step_h + h, full_h), min(column * step_w + w, full_w)
                y, x = end_y - h, end_x - w
                crop = scaled[y:end_y, x:end_x]
                probabilities = softmax(literal_logits(model, crop))
                if flip:
                    mirrored = softmax(literal_logits(model, np.ascontiguousarray(crop[:, ::-1])))
                    probabilities = (probabilities + mirrored[:, ::-1]) / 2
                summed[y:end_y, x:end_x] += probabilities
                count[y:end_y, x:end_x] += 1
        mean = (summed / count)[top : top + new_h, left : left + new_w]
        total += cv2.resize(mean, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return (total / len(scales)).transpose(2, 0, 1)


def wrapped(model, *, scales=(1.0,), base_size=0, window=None, fraction=2 / 3, flip=False, **protocol):
    return SemanticSegmentorWithTTA(
        model,
        scales=scales,
        base_size=base_size,
        protocol=WindowProtocol(size=window, stride_fraction=fraction, flip=flip, **protocol),
    )


def run(segmentor, image, size):
    return segmentor([{"image": image, "height": size[0], "width": size[1]}])[0]["sem_seg"].numpy()


PROTOCOLS = {
    "whole image": {},
    "whole image, flip": {"flip": True},
    "windows": {"window": (24, 20)},
    "windows, flip": {"window": (24, 20), "flip": True},
    "half stride": {"window": (20, 20), "fraction": 0.5},
    "side by side": {"window": (16, 16), "fraction": 1.0},
    "scales, flip": {"scales": SCALES, "flip": True},
    "scales, windows, flip": {"scales": SCALES, "window": (25, 25), "flip": True},
    "base size": {"scales": (0.5, 1.5), "base_size": 64, "window": (33, 29), "flip": True},
}


@pytest.mark.parametrize("size", [(40, 56), (57, 33), (24, 20), (13, 70), (7, 9), (1, 40), (40, 1), (1, 1)])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equals_the_literal_version(model, protocol, size):
    arguments = PROTOCOLS[protocol]
    image = picture(*size)
    result = run(wrapped(model, batch=3, **arguments), image, size)
    assert result.shape == (K, *size) and result.dtype == np.float32
    np.testing.assert_allclose(result, literal(model, image, size, **arguments), atol=1e-5)
    np.testing.assert_allclose(result.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("protocol", ["whole image", "scales, windows, flip"])
def test_the_result_has_the_size_that_the_record_asks_for(model, protocol):
    """A loader that resizes gives the ground truth's height and width beside the smaller picture."""
    image = picture(30, 44)
    result = run(wrapped(model, **PROTOCOLS[protocol]), image, (61, 90))
    np.testing.assert_allclose(result, literal(model, image, (61, 90), **PROTOCOLS[protocol]), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    window=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    fraction=st.floats(0.3, 1.0),
    scale=st.floats(0.3, 2.0),
    flip=st.booleans(),
)
def test_any_size_window_and_stride_equals_the_literal_version(model, size, window, fraction, scale, flip):
    arguments = {"window": window, "fraction": fraction, "scales": (scale,), "flip": flip}
    image = picture(*size)
    result = run(wrapped(model, batch=16, **arguments), image, size)
    np.testing.assert_allclose(result, literal(model, image, size, **arguments), atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 4, 100])
def test_the_batch_changes_nothing_and_bounds_the_forward_pass(model, batch):
    image, seen = picture(60, 70), []

    def predict(images):
        seen.append(len(images))
        return model.predict(images)

    normalized = (image - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        result = average_windows(predict, normalized, WindowProtocol((24, 24), batch=batch, flip=True))
        one = average_windows(predict, normalized, WindowProtocol((24, 24), batch=1, flip=True))
    torch.testing.assert_close(result, one, atol=1e-6, rtol=0)
    assert max(seen) <= 2 * batch
    assert sum(seen[: -(-16 // batch)]) == 2 * 16  # 4 x 4 windows, each once and once mirrored


def test_whole_image_alone_has_the_labels_of_the_bare_model(model):
    image = picture(37, 50)
    record = {"image": image, "height": 37, "width": 50}
    with torch.no_grad():
        logits = model([record])[0]["sem_seg"]
    probabilities = wrapped(model)([record])[0]["sem_seg"]
    torch.testing.assert_close(probabilities, logits.softmax(0), atol=1e-6, rtol=1e-5)


def test_float16_halves_the_map_and_stays_close(model):
    image = picture(45, 61)
    arguments = {"scales": SCALES, "window": (25, 25), "flip": True}
    half = run(wrapped(model, dtype=torch.float16, **arguments), image, (45, 61))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half.astype(np.float32), run(wrapped(model, **arguments), image, (45, 61)), atol=3e-3)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation gave back."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_memory_is_bounded_by_one_map_and_one_batch():
    """No tensor is larger than the map of probabilities at the largest scale, not even while it is resized."""
    classes, window, size = 12, (16, 16), (60, 80)

    def predict(images):
        return images.mean(1, keepdim=True).expand(-1, classes, -1, -1)

    with LargestTensor() as largest:
        result = average_scales(
            predict, torch.zeros(3, *size), size, scales=(0.5, 2.0), protocol=WindowProtocol(window, batch=2)
        )
    assert largest.elements == classes * 120 * 160
    torch.testing.assert_close(result, torch.full((classes, *size), 1 / classes))


def test_windows_are_flush_with_the_edge():
    assert window_starts(100, 40, 27) == [0, 27, 54, 60]
    assert window_starts(40, 40, 27) == [0]
    assert window_starts(94, 40, 27) == [0, 27, 54]  # the last one fits exactly: no window twice
    assert window_starts(41, 40, 27) == [0, 1]


def test_scaled_sizes():
    assert scaled_size((1024, 2048), 1.75) == (1792, 3584)
    assert scaled_size((375, 500), 1.0, base_size=512) == (384, 512)
    assert scaled_size((375, 500), 1.25) == (469, 625)
    assert scaled_size((500, 1), 0.5) == (250, 1)


def config(**options):
    cfg = get_cfg()
    cfg.INPUT.CROP.SIZE = [25, 25]
    cfg.merge_from_list([part for key, value in options.items() for part in (key.replace("__", "."), value)])
    return cfg


def test_the_config_chooses_the_protocol(model):
    image = picture(40, 56)

    def of(**options):
        return run(with_test_time_protocol(config(**options), model), image, (40, 56))

    assert with_test_time_protocol(config(), model) is model
    papers = {"scales": SCALES, "flip": True}
    np.testing.assert_allclose(of(TEST__AUG__ENABLED=True), literal(model, image, (40, 56), **papers), atol=1e-5)
    np.testing.assert_allclose(
        of(TEST__AUG__ENABLED=True, TEST__WINDOW__ENABLED=True),
        literal(model, image, (40, 56), window=(25, 25), **papers),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        of(TEST__WINDOW__ENABLED=True, TEST__WINDOW__SIZE=[30, 20], TEST__WINDOW__STRIDE_FRACTION=0.5),
        literal(model, image, (40, 56), window=(30, 20), fraction=0.5),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        of(TEST__AUG__ENABLED=True, TEST__AUG__SCALES=[0.5], TEST__AUG__FLIP=False, TEST__AUG__BASE_SIZE=80),
        literal(model, image, (40, 56), scales=(0.5,), base_size=80),
        atol=1e-5,
    )
    assert of(TEST__AUG__ENABLED=True, TEST__AUG__HALF=True).dtype == np.float16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"TEST__AUG__ENABLED": True, "TEST__AUG__SCALES": []}, "SCALES"),
        ({"TEST__AUG__ENABLED": True, "TEST__AUG__SCALES": [1.0, -1.0]}, "SCALES"),
        ({"TEST__AUG__ENABLED": True, "TEST__AUG__BASE_SIZE": -1}, "BASE_SIZE"),
        ({"TEST__WINDOW__ENABLED": True, "TEST__WINDOW__SIZE": [0, 20]}, "window size"),
        ({"TEST__WINDOW__ENABLED": True, "TEST__WINDOW__SIZE": [20]}, "window size"),
        ({"TEST__WINDOW__ENABLED": True, "TEST__WINDOW__BATCH": 0}, "window batch"),
        ({"TEST__WINDOW__ENABLED": True, "TEST__WINDOW__STRIDE_FRACTION": 1.5}, "stride_fraction"),
    ],
)
def test_bad_options_are_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        with_test_time_protocol(config(**options), model)


def test_another_meta_architecture_is_refused_by_name():
    stock = SemanticSegmentor(backbone=TinyBackbone(), sem_seg_head=TinyHead(), pixel_mean=MEAN, pixel_std=STD)
    with pytest.raises(TypeError, match=r"SemanticSegmentor.*META_ARCHITECTURE"):
        SemanticSegmentorWithTTA(stock)


def test_the_wrapper_leaves_a_training_model_in_training(model):
    """Evaluations between training steps put the model's mode back by way of the wrapper."""
    model.train()
    try:
        assert wrapped(model).training and model.training
    finally:
        model.eval()
    assert not wrapped(model).training
