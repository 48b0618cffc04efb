"""A trained model as a function from a picture to a label map.

Shape shorthand in this module:

    K: classes
    H, W: height and width of the picture, in pixels
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from PIL import Image

from epl_d2.checkpoint.loading import load_weights
from epl_d2.data.augmentation_recipe import build_test_augmentations
from epl_d2.data.class_names import names_and_colors
from epl_d2.data.datasets.metadata import Color
from epl_d2.engine.setup import read_config
from epl_d2.engine.trainer import Trainer
from epl_d2.model_zoo import get_checkpoint_url, get_config_file
from epl_d2.modeling import SemanticSegmentorWithTTA
from epl_d2.visualization import colorize, draw_contours, legend, overlay
from epl_d2.visualization.sheet import page

from .instance_predictor import InstancePredictor
from .pictures import as_record, as_rgb

__all__ = ["KINDS", "Prediction", "Predictor", "draw_labels", "load_predictor"]

KINDS = ("overlay", "contours", "colors")

_NARROWEST_LEGEND = 320
_NOTHING_IGNORED = -1  # a prediction has a class everywhere


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about one picture.

    Attributes:
        image: the picture as the model saw it, before any resizing: RGB uint8 [H, W, 3].
        labels: class ids [H, W], uint8 (uint16 for more than 256 classes).
        probabilities: float [K, H, W], on the model's device.
        classes: K names.
        palette: K colors (r, g, b).
    """

    image: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    probabilities: torch.Tensor = field(repr=False)
    classes: tuple[str, ...]
    palette: tuple[Color, ...] = field(repr=False)

    def draw(self, kind: str = "overlay", *, legend: bool = True) -> np.ndarray:
        """A picture of the labels, RGB uint8.

        Args:
            kind: one of `KINDS`: colors blended over the image, contours in the colors of their classes, colors.
            legend: name the classes that occur below it; without it the result is [H, W, 3].
        """
        shown = sorted(np.unique(self.labels).tolist()) if legend else ()
        return draw_labels(self.image, self.labels, self.palette, self.classes, kind, shown)


class Predictor:
    """Reads a picture, runs the model with the config's test-time protocol and gives back a `Prediction`."""

    def __init__(self, cfg: CfgNode, model: torch.nn.Module):
        """
        Args:
            cfg: of the model; INPUT.*, TEST.AUG.* and TEST.WINDOW.* are read, class names and colors are those of
                `epl_d2.data.class_names.names_and_colors`.
            model: an `EPLSemanticSegmentor` with its weights.
        """
        self._model = SemanticSegmentorWithTTA(cfg, model).eval()
        self._augmentations = T.AugmentationList(build_test_augmentations(cfg))
        self._image_format = cfg.INPUT.FORMAT
        self.classes, self.palette = names_and_colors(cfg)

    @classmethod
    def from_config(
        cls,
        config_file: str | os.PathLike,
        weights: str | os.PathLike | None = None,
        opts: Sequence[object] = (),
        device: str | None = None,
        dataset_file: str | os.PathLike | None = None,
    ) -> Predictor:
        """A predictor of a config file.

        Args:
            config_file: one of configs/*/*.yaml, the config.yaml of a run or of a published model, or one that is based
                on them.
            weights: checkpoint of the trained model; None takes MODEL.WEIGHTS, which may lie beside the config file.
            opts: further options, [KEY, VALUE, ...], such as ["TEST.AUG.ENABLED", True].
            device: "cpu", "cuda", "cuda:1"; None takes MODEL.DEVICE, or the CPU where there is no CUDA.
            dataset_file: YAML file that describes the data set, for names and colors that the config does not have.

        Raises:
            FileNotFoundError: the config or the checkpoint is missing.
            ValueError: the checkpoint is one of another model, or `weights` and MODEL.WEIGHTS in `opts` name two.
            KeyError: an option does not exist.
        """
        cfg, model = _read_model(config_file, weights, opts, device, dataset_file)
        if cfg.MODEL.MASK_ON:
            raise ValueError(
                f"{config_file}: the model finds instances (MODEL.MASK_ON) and gives no label to each pixel: "
                "epl_d2.inference.load_predictor makes an InstancePredictor of it"
            )
        return cls(cfg, model)

    @classmethod
    def from_zoo(cls, config_path: str, opts: Sequence[object] = (), device: str | None = None) -> Predictor:
        """A predictor of a trained model that travels with the package; nothing is fetched.

        Args:
            config_path: one of `epl_d2.model_zoo.trained_configs()`.
            opts, device: as in :meth:`from_config`.

        Raises:
            FileNotFoundError: the zoo has no such config, or no model of it.
            ValueError: `opts` name another checkpoint, by MODEL.WEIGHTS, or make another model of it.
            KeyError: an option does not exist.
        """
        config_file, weights = get_config_file(config_path), get_checkpoint_url(config_path)
        return cls.from_config(config_file, weights, opts, device)

    def __call__(self, image: str | os.PathLike | Image.Image | np.ndarray) -> Prediction:
        """Segment one picture, of any size.

        Args:
            image: a file, a Pillow picture (its EXIF rotation is applied) or an array: RGB [H, W, 3], RGBA [H, W, 4]
                (alpha is dropped) or gray [H, W], of uint8, or of uint16, which keeps its high byte.

        Returns:
            The prediction at the size of the picture.

        Raises:
            FileNotFoundError, ValueError: the file is missing or unreadable, or the picture is none of these.
        """
        rgb = as_rgb(image)
        record = as_record(rgb, self._augmentations, self._image_format)
        probabilities = self._model([record])[0]["sem_seg"]
        # On a CPU max() is several times as fast as argmax() along the first axis.
        labels = probabilities.max(dim=0).indices
        # Narrowed on the device, so that a byte a pixel is copied.
        labels = labels.to(torch.uint8).cpu().numpy() if len(self.classes) <= 256 else labels.cpu().numpy()
        labels = labels if labels.dtype == np.uint8 else labels.astype(np.uint16)
        return Prediction(rgb, labels, probabilities, self.classes, self.palette)


def load_predictor(
    config_file: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    opts: Sequence[object] = (),
    device: str | None = None,
    dataset_file: str | os.PathLike | None = None,
) -> Predictor | InstancePredictor:
    """The predictor of a config file: of instances where MODEL.MASK_ON is True, else of labels.

    Args, Raises:
        as of `Predictor.from_config`.
    """
    cfg, model = _read_model(config_file, weights, opts, device, dataset_file)
    return InstancePredictor(cfg, model) if cfg.MODEL.MASK_ON else Predictor(cfg, model)


def _read_model(
    config_file: str | os.PathLike,
    weights: str | os.PathLike | None,
    opts: Sequence[object],
    device: str | None,
    dataset_file: str | os.PathLike | None,
) -> tuple[CfgNode, torch.nn.Module]:
    options = [*opts, *([] if device is None else ["MODEL.DEVICE", device])]
    cfg = read_config(config_file, options, dataset_file, weights)
    cfg.freeze()
    model = Trainer.build_model(cfg)
    load_weights(model, cfg.MODEL.WEIGHTS)
    return cfg, model


def draw_labels(
    image: np.ndarray,
    labels: np.ndarray,
    palette: Sequence[Color],
    classes: Sequence[str],
    kind: str = "overlay",
    shown: Sequence[int] = (),
) -> np.ndarray:
    """A label map over its image, with a legend below.

    Args:
        image: RGB uint8 [H, W, 3].
        labels: class ids [H, W].
        palette, classes: colors and names of all classes.
        kind: one of `KINDS`.
        shown: ids of the classes to name; none leaves the legend out.

    Returns:
        RGB uint8 [H, W, 3], or larger by the legend.

    Raises:
        ValueError: an unknown kind, or picture and labels do not fit each other.
    """
    if kind == "overlay":
        picture = overlay(image, labels, palette, ignore_value=_NOTHING_IGNORED)
    elif kind == "contours":
        picture = draw_contours(image, labels, palette, width=3, ignore_value=_NOTHING_IGNORED)
    elif kind == "colors":
        picture = colorize(labels, palette, ignore_value=_NOTHING_IGNORED)
    else:
        raise ValueError(f"kind is {kind!r}, expected one of {KINDS}")
    if not shown:
        return picture
    names = legend(
        [classes[label] for label in shown],
        [palette[label] for label in shown],
        width=max(picture.shape[1], _NARROWEST_LEGEND),
    )
    return page([picture, names])
