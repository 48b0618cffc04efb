"""The augmentations that a config asks for."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data.transforms import Augmentation

from .augmentations import (
    CropWithPadding,
    FusedAugmentation,
    RandomColorJitter,
    RandomGaussianBlur,
    RandomHorizontalFlip,
    RandomRotation,
    RandomScale,
    ResizeShortestEdge,
)


def build_train_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """The steps of INPUT.AUGMENTATIONS.

    Geometric steps are fused into one warp, which puts "blur" and "color_jitter" behind the crop: they then
    work on the pixels that are used only. "shortest_edge" is Detectron2's own antialiased resize and stays a
    step of its own.

    Raises:
        ValueError: an unknown step, or a setting out of range; the message names the key.
    """
    result: list[Augmentation] = []
    geometric: list[Augmentation] = []
    photometric: list[Augmentation] = []

    def flush() -> None:
        if geometric:
            result.append(FusedAugmentation(tuple(geometric), *_fills(cfg)))
        result.extend(photometric)
        geometric.clear()
        photometric.clear()

    for step in cfg.INPUT.AUGMENTATIONS:
        if step == "shortest_edge":
            flush()
            sizes, sampling = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
            result.append(ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TRAIN, sampling))
        elif step in _GEOMETRIC:
            geometric.extend(_named(f"INPUT.AUGMENTATIONS {step!r}", _GEOMETRIC[step], cfg))
        elif step in _PHOTOMETRIC:
            photometric.extend(_named(f"INPUT.AUGMENTATIONS {step!r}", _PHOTOMETRIC[step], cfg))
        else:
            known = sorted((*_GEOMETRIC, *_PHOTOMETRIC, "shortest_edge"))
            raise ValueError(f"INPUT.AUGMENTATIONS has the unknown step {step!r}; known are {known}")
    flush()
    return result


def build_test_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Nothing, or a resize to INPUT.MIN_SIZE_TEST if that is not 0."""
    if cfg.INPUT.MIN_SIZE_TEST == 0:
        return []
    return [ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]


def _named(key: str, build: Callable[[CfgNode], list[Augmentation]], cfg: CfgNode) -> list[Augmentation]:
    try:
        return build(cfg)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _fills(cfg: CfgNode) -> tuple[tuple[float, ...], int]:
    return tuple(cfg.MODEL.PIXEL_MEAN), cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE


def _scale(cfg: CfgNode) -> list[Augmentation]:
    return [RandomScale(tuple(cfg.INPUT.SCALE.VALUES), cfg.INPUT.SCALE.SAMPLING, *_fills(cfg))]


def _rotate(cfg: CfgNode) -> list[Augmentation]:
    return [RandomRotation(cfg.INPUT.ROTATE.DEGREES, cfg.INPUT.ROTATE.PROB, *_fills(cfg))]


def _flip(cfg: CfgNode) -> list[Augmentation]:
    if cfg.INPUT.RANDOM_FLIP not in ("horizontal", "none"):
        raise ValueError(f'INPUT.RANDOM_FLIP is {cfg.INPUT.RANDOM_FLIP!r}, expected "horizontal" or "none"')
    return [RandomHorizontalFlip()] if cfg.INPUT.RANDOM_FLIP == "horizontal" else []


def _crop(cfg: CfgNode) -> list[Augmentation]:
    if not cfg.INPUT.CROP.ENABLED:
        return []
    if cfg.INPUT.CROP.TYPE != "absolute":
        raise ValueError(f'INPUT.CROP.TYPE is {cfg.INPUT.CROP.TYPE!r}, expected "absolute" (SIZE in pixels)')
    return [CropWithPadding(tuple(cfg.INPUT.CROP.SIZE), *_fills(cfg), padding=cfg.INPUT.CROP.PAD)]


def _blur(cfg: CfgNode) -> list[Augmentation]:
    blur = cfg.INPUT.BLUR
    return [RandomGaussianBlur(blur.PROB, tuple(blur.SIGMA), blur.KERNEL_SIZE)]


def _color_jitter(cfg: CfgNode) -> list[Augmentation]:
    jitter = cfg.INPUT.COLOR_JITTER
    amounts = (jitter.BRIGHTNESS, jitter.CONTRAST, jitter.SATURATION, jitter.HUE)
    return [RandomColorJitter(*amounts, image_format=cfg.INPUT.FORMAT)]


_GEOMETRIC = {"scale": _scale, "rotate": _rotate, "flip": _flip, "crop": _crop}
_PHOTOMETRIC = {"blur": _blur, "color_jitter": _color_jitter}
