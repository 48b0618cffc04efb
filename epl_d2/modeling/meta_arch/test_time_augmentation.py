"""The test-time protocol of a config, around any model of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import nn

from .semantic_segmentor import EPLSemanticSegmentor
from .sliding_window import WindowProtocol, average_scales

__all__ = ["SemanticSegmentorWithTTA", "with_test_time_protocol"]


class SemanticSegmentorWithTTA(nn.Module):
    """Whole image or sliding windows, at one scale or several, mirrored or not: one forward for all of them.

    The results are averaged *probabilities*, not logits, at the size that the records ask for.
    """

    @configurable
    def __init__(
        self,
        model: EPLSemanticSegmentor,
        *,
        scales: Sequence[float] = (1.0,),
        base_size: int = 0,
        protocol: WindowProtocol | None = None,
    ):
        """
        Args:
            model: an `EPLSemanticSegmentor`, wrapped for distributed training or not.
            scales: of the image; see `base_size`.
            base_size: long side of the image at scale 1, in pixels; 0 is its own.
            protocol: how one scale is computed; None takes the whole image.

        Raises:
            TypeError: the model is of another kind.
            ValueError: a scale or `base_size` is out of its range.
        """
        super().__init__()
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        if not isinstance(model, EPLSemanticSegmentor):
            raise TypeError(
                f"the model is a {type(model).__name__}; TEST.AUG and TEST.WINDOW need an EPLSemanticSegmentor "
                "(MODEL.META_ARCHITECTURE)"
            )
        if not scales or min(scales) <= 0:
            raise ValueError(f"TEST.AUG.SCALES is {list(scales)}, expected one or more positive numbers")
        if base_size < 0:
            raise ValueError(f"TEST.AUG.BASE_SIZE is {base_size}, expected pixels, or 0 for the image's own size")
        self.model = model
        self.scales = tuple(scales)
        self.base_size = base_size
        self.protocol = protocol or WindowProtocol()
        self.train(model.training)

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Arguments of `__init__`; what is not enabled leaves the whole image at its own scale."""
        augmented, window = cfg.TEST.AUG.ENABLED, cfg.TEST.WINDOW
        return {
            "model": model,
            "scales": cfg.TEST.AUG.SCALES if augmented else (1.0,),
            "base_size": cfg.TEST.AUG.BASE_SIZE if augmented else 0,
            "protocol": WindowProtocol(
                size=tuple(window.SIZE or cfg.INPUT.CROP.SIZE) if window.ENABLED else None,
                stride_fraction=window.STRIDE_FRACTION,
                batch=window.BATCH,
                flip=augmented and cfg.TEST.AUG.FLIP,
                dtype=torch.float16 if cfg.TEST.AUG.HALF else torch.float32,
            ),
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        """
        Args:
            batched_inputs: a record per image: "image", [3, h, w]; optionally "height" and "width" of the result.

        Returns:
            Per image a dict with "sem_seg", probabilities [K, height, width] on the model's device.
        """
        return [{"sem_seg": self.probabilities(record)} for record in batched_inputs]

    @torch.no_grad()
    def probabilities(self, record: dict[str, Any]) -> torch.Tensor:
        """Averaged probabilities [K, height, width] of one record."""
        image = self.model.normalize(record["image"].to(self.model.device))
        size = record.get("height", image.shape[-2]), record.get("width", image.shape[-1])
        return average_scales(
            self._predict, image, size, scales=self.scales, base_size=self.base_size, protocol=self.protocol
        )

    def _predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of normalized images of the images' own size."""
        height, width = images.shape[-2:]
        divisor = max(1, self.model.backbone.size_divisibility)
        images = F.pad(images, (0, -width % divisor, 0, -height % divisor))
        return self.model.predict(images)[..., :height, :width]


def with_test_time_protocol(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """`model` as TEST.AUG and TEST.WINDOW want it; the model itself if neither is enabled."""
    if not (cfg.TEST.AUG.ENABLED or cfg.TEST.WINDOW.ENABLED):
        return model
    return SemanticSegmentorWithTTA(cfg, model)
