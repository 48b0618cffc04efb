"""GSCNN (arXiv 1907.05740) with EPL: a shape stream that predicts edges beside NVIDIA's DeepLabV3+."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from epl_d2.contours.edges import canny_of_normalized, label_edges
from epl_d2.losses.criteria.gscnn import dual_task_loss, edge_attention_loss, edge_loss
from epl_d2.modeling.layers.resize import resize
from epl_d2.modeling.layers.shape_stream import ShapeStream

from .base import select_features
from .nvidia_deeplab_v3_plus import EPLNVIDIADeepLabV3PlusHead

__all__ = ["EPLGSCNNHead"]

# Names under which the shape stream's results join the features.
_PREDICTED_EDGES, _EDGE_ATTENTION = "predicted_edges", "edge_attention"


@SEM_SEG_HEADS_REGISTRY.register()
class EPLGSCNNHead(EPLNVIDIADeepLabV3PlusHead):
    """GSCNN's head, which needs `EPLSemanticSegmentor` for the image.

    The loader computes Canny's edges and the edge target in its workers where INPUT.MAPS holds "canny" and "edges";
    what it did not compute is computed here.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        shape_input: dict[str, ShapeSpec],
        shape_channels: Sequence[int],
        shape_norm: str | Callable[[int], nn.Module],
        edge_weight: float = 20.0,
        attention_weight: float = 1.0,
        dual_task_weight: float = 1.0,
        edges_of_all_classes: bool = False,
        **kwargs,
    ):
        """
        Args:
            input_shape: the fine feature, then the coarse one.
            shape_input: the feature that the shape stream begins with, then one for each gate.
            shape_channels: channels of the stream at each gate.
            shape_norm: its normalization, as in `detectron2.layers.get_norm`.
            edge_weight, attention_weight, dual_task_weight: factors of the losses; 0 leaves one out.
            edges_of_all_classes: see `epl_d2.contours.edges.label_edges`.
            kwargs: the other arguments of `EPLNVIDIADeepLabV3PlusHead`.
        """
        super().__init__(input_shape, edge_branch=True, **kwargs)
        self.shape_features = list(shape_input)
        first, *sides = (shape.channels for shape in shape_input.values())
        self.shape_stream = ShapeStream(first, sides, shape_channels, shape_norm)
        self.edge_weight = edge_weight
        self.attention_weight = attention_weight
        self.dual_task_weight = dual_task_weight
        self.edges_of_all_classes = edges_of_all_classes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        gscnn = cfg.MODEL.GSCNN
        return {
            **super().from_config(cfg, input_shape),
            "shape_input": select_features(input_shape, gscnn.SHAPE_FEATURES, "MODEL.GSCNN.SHAPE_FEATURES"),
            "shape_channels": gscnn.SHAPE_CHANNELS,
            "shape_norm": cfg.MODEL.SEM_SEG_HEAD.NORM,
            "edge_weight": gscnn.EDGE_WEIGHT,
            "attention_weight": gscnn.ATTENTION_WEIGHT,
            "dual_task_weight": gscnn.DUAL_TASK_WEIGHT,
            "edges_of_all_classes": gscnn.EDGES_OF_ALL_CLASSES,
        }

    def forward(
        self, features: dict[str, torch.Tensor], targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """
        Args:
            features: the backbone's and "image", [N, 3, H, W], normalized; optionally "canny", [N, 1, H, W], and in
                training "edges", [N, H, W].
            targets: [N, H, W] labels, in training.
        """
        if "image" not in features:
            raise ValueError("GSCNN looks at the image: set MODEL.META_ARCHITECTURE to 'EPLSemanticSegmentor'")
        canny = features["canny"] if "canny" in features else self.canny(features["image"])
        first, *sides = (features[name] for name in self.shape_features)
        edges, attention = self.shape_stream(first, sides, canny)
        return super().forward({**features, _PREDICTED_EDGES: edges, _EDGE_ATTENTION: attention}, targets)

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """[N, K, h, w] logits at the fine feature's stride."""
        return self.decode(features, features[_EDGE_ATTENTION])

    def upsample(self, predictions: torch.Tensor, size: tuple[int, int] | None) -> torch.Tensor:
        """Logits at the size of the image: the only resizing of this model without aligned corners."""
        size = size or tuple(self.common_stride * length for length in predictions.shape[-2:])
        if predictions.shape[-2:] == size:
            return predictions
        return resize(predictions, size, align_corners=False)

    def losses(
        self, predictions: torch.Tensor, targets: torch.Tensor, features: dict[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """The common losses and GSCNN's own: "loss_edge", "loss_attention" and "loss_dual_task"."""
        logits = self.upsample(predictions, tuple(targets.shape[-2:]))
        losses = super().losses(logits, targets, features)
        edges = features[_PREDICTED_EDGES]
        if self.edge_weight:
            target = features["edges"] if "edges" in features else self.edge_target(targets)
            losses["loss_edge"] = self.edge_weight * edge_loss(edges, target)
        if self.attention_weight:
            attention = edge_attention_loss(logits, targets, edges, ignore_value=self.ignore_value)
            losses["loss_attention"] = self.attention_weight * attention
        if self.dual_task_weight:
            dual_task = dual_task_loss(logits, targets, ignore_value=self.ignore_value)
            losses["loss_dual_task"] = self.dual_task_weight * dual_task
        return losses

    @torch.no_grad()
    def canny(self, images: torch.Tensor) -> torch.Tensor:
        """Canny's edges [N, 1, H, W] of normalized images [N, 3, H, W], 0 or 255."""
        pictures = images.float().permute(0, 2, 3, 1).cpu().numpy()
        return _stack([canny_of_normalized(picture) for picture in pictures], images.device)

    def edge_target(self, targets: torch.Tensor) -> torch.Tensor:
        """Contours [N, H, W] of labels [N, H, W], 0 or 1."""
        options = {"ignore_value": self.ignore_value, "all_classes": self.edges_of_all_classes}
        return _stack([label_edges(labels, **options) for labels in targets.cpu().numpy()], targets.device)


def _stack(maps: list[np.ndarray], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(maps)).to(device)
