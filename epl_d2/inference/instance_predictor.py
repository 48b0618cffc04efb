"""A trained model of masks as a function from a picture to its instances and, for Panoptic FPN, its segments.

Shape shorthand in this module:

    N: instances
    H, W: height and width of the picture, in pixels
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from PIL import Image

from epl_d2.data.augmentation_recipe import build_test_augmentations

from .pictures import as_record, as_rgb

__all__ = ["InstancePrediction", "InstancePredictor"]


@dataclass(frozen=True, eq=False)
class InstancePrediction:
    """What a model finds in one picture.

    Attributes:
        image: the picture as the model saw it, before any resizing: RGB uint8 [H, W, 3].
        instances: Detectron2's, on the CPU: `pred_masks` bool [N, H, W], `pred_classes`, `scores`, `pred_boxes`.
        panoptic: ids [H, W] and the list of segments of Panoptic FPN; None for other models.
        metadata: Detectron2's, with the names of the classes.
    """

    image: np.ndarray = field(repr=False)
    instances: Instances = field(repr=False)
    panoptic: tuple[torch.Tensor, list[dict[str, Any]]] | None = field(repr=False)
    metadata: Any = field(repr=False)

    def draw(self, *, min_score: float = 0.5) -> np.ndarray:
        """The picture with the panoptic segments, or else the instances, as Detectron2 draws them: RGB uint8 [H, W, 3].

        Args:
            min_score: instances below it are not drawn; which of them are panoptic segments, the model has decided.
        """
        visualizer = Visualizer(self.image, self.metadata)
        if self.panoptic is not None:
            return visualizer.draw_panoptic_seg(*self.panoptic).get_image()
        return visualizer.draw_instance_predictions(self.instances[self.instances.scores >= min_score]).get_image()


class InstancePredictor:
    """Reads a picture, runs the model and gives back an `InstancePrediction`."""

    def __init__(self, cfg: CfgNode, model: torch.nn.Module) -> None:
        """
        Args:
            cfg: of the model; names of the classes are those of the first data set of DATASETS.TEST.
            model: a `GeneralizedRCNN` or `PanopticFPN` with its weights.
        """
        self._model = model.eval()
        self._augmentations = T.AugmentationList(build_test_augmentations(cfg))
        self._image_format = cfg.INPUT.FORMAT
        names = (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)
        self._metadata = MetadataCatalog.get(names[0] if names else "__unused")

    def __call__(self, image: str | os.PathLike | Image.Image | np.ndarray) -> InstancePrediction:
        """Segment one picture, of any size.

        Args:
            image: what `Predictor` takes.

        Raises:
            FileNotFoundError, ValueError: the file is missing or unreadable, or the picture is none of these.
        """
        rgb = as_rgb(image)
        record = as_record(rgb, self._augmentations, self._image_format)
        with torch.no_grad():
            (result,) = self._model([record])
        panoptic = result.get("panoptic_seg")
        if panoptic is not None:
            panoptic = panoptic[0].cpu(), panoptic[1]
        return InstancePrediction(rgb, result["instances"].to("cpu"), panoptic, self._metadata)
