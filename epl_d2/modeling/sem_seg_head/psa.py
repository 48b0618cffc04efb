"""PSANet (ECCV 2018) with EPL; structure and module names as in hszhao/semseg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import conv_norm_relu
from epl_d2.modeling.layers.psa_mask import check_mask_size, largest_mask, mask_index, shrunk_size, spread_masks
from epl_d2.modeling.layers.resize import resize

from .semseg import SemsegHead

__all__ = ["ATTENTION_TYPES", "EPLPSAHead", "PointwiseSpatialAttention"]

# "collect": every position gathers from the others, by its own mask. "distribute": it gives to the others by it.
ATTENTION_TYPES = ("collect", "distribute", "bi-direction")


class PointwiseSpatialAttention(nn.Module):
    """The input beside a sum over all positions that masks predicted at each position weight."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        mask_size: tuple[int, int],
        attention_type: str = "bi-direction",
        shrink_factor: int = 2,
        norm: str = "BN",
        usual_size: tuple[int, int] | None = None,
    ):
        """
        Args:
            in_channels: C.
            channels: channels of the attended features.
            mask_size: height and width of the masks, odd.
            attention_type: one of ATTENTION_TYPES.
            shrink_factor: the attention works at 1 / shrink_factor of the input's resolution.
            norm: normalization, as in `detectron2.layers.get_norm`.
            usual_size: (h, w) of the inputs to expect, whose mask index is kept; other sizes work as well.
        """
        super().__init__()
        self.mask_size = mask_size
        self.attention_type = attention_type
        self.shrink_factor = shrink_factor
        self.reduce, self.attention = self._branch(in_channels, channels, norm)
        if attention_type == "bi-direction":
            self.reduce_p, self.attention_p = self._branch(in_channels, channels, norm)
        both = 2 if attention_type == "bi-direction" else 1
        self.proj = conv_norm_relu(both * channels, in_channels, 1, norm)

        self.usual_size = shrunk_size(usual_size, shrink_factor) if usual_size else None
        index, outside = mask_index(self.usual_size, mask_size) if self.usual_size else (None, None)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("outside", outside, persistent=False)

    def _branch(self, in_channels: int, channels: int, norm: str) -> tuple[nn.Sequential, nn.Sequential]:
        """The features that are attended, and the layers that predict a mask at each position of them."""
        reduce = conv_norm_relu(in_channels, channels, 1, norm)
        masks = nn.Conv2d(channels, self.mask_size[0] * self.mask_size[1], 1, bias=False)
        return reduce, nn.Sequential(*conv_norm_relu(channels, channels, 1, norm), masks)

    def _index(self, size: tuple[int, int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
        return (self.index, self.outside) if size == self.usual_size else mask_index(size, self.mask_size, device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, h, w] to [N, 2 * C, h, w]."""
        size = shrunk_size(x.shape[-2:], self.shrink_factor)
        index, outside = self._index(size, x.device)

        def attend(reduce: nn.Module, attention: nn.Module, *, distribute: bool) -> torch.Tensor:
            reduced = resize(reduce(x), size)
            spread = spread_masks(attention(reduced), index, outside)
            weights = _softmax(spread.transpose(1, 2) if distribute else spread)
            return torch.bmm(reduced.flatten(2), weights).unflatten(2, size)

        attended = attend(self.reduce, self.attention, distribute=self.attention_type == "distribute")
        if self.attention_type == "bi-direction":
            distributed = attend(self.reduce_p, self.attention_p, distribute=True)
            attended = torch.cat([attended, distributed], dim=1)
        # To the input's size: the same as undoing the shrinking where that is exact (crops of 16k + 1 at stride 8).
        return torch.cat([x, resize(self.proj(attended), x.shape[-2:])], dim=1)


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    """Weights that sum to 1 over dim 1, in float32 at least: their sums run over a thousand positions and more."""
    return logits.softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))


@SEM_SEG_HEADS_REGISTRY.register()
class EPLPSAHead(SemsegHead):
    """Point-wise spatial attention. Its parameters depend on the size of the masks, thus on the training crop."""

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        in_feature: str,
        mask_size: Sequence[int] = (),
        channels: int = 512,
        attention_type: str = "bi-direction",
        shrink_factor: int = 2,
        crop_size: tuple[int, int] | None = None,
        norm: str = "BN",
        **kwargs: Any,
    ):
        """
        Args:
            mask_size: (height, width) of the masks; empty for the size that reaches across the whole training crop.
            crop_size: (height, width) of the training crop in pixels; None if training does not crop.
            channels, attention_type, shrink_factor: see `PointwiseSpatialAttention`.
            input_shape, in_feature, norm, kwargs: see `SemsegHead`.

        Raises:
            ValueError: the masks do not fit the crop, or another argument is none of the above.
        """
        if attention_type not in ATTENTION_TYPES:
            raise ValueError(f"MODEL.PSA.TYPE is {attention_type!r}; it may be {', '.join(ATTENTION_TYPES)}")
        if shrink_factor < 1:
            raise ValueError(f"MODEL.PSA.SHRINK_FACTOR is {shrink_factor}; it may be 1 (no shrinking) or more")
        in_channels, stride = input_shape[in_feature].channels, input_shape[in_feature].stride
        usual_size = (-(-crop_size[0] // stride), -(-crop_size[1] // stride)) if crop_size else None
        largest = largest_mask(shrunk_size(usual_size, shrink_factor)) if usual_size else None
        super().__init__(input_shape, in_feature=in_feature, context_channels=2 * in_channels, norm=norm, **kwargs)
        self.psa = PointwiseSpatialAttention(
            in_channels,
            channels,
            mask_size=check_mask_size(mask_size or largest or (), largest),
            attention_type=attention_type,
            shrink_factor=shrink_factor,
            norm=norm,
            usual_size=usual_size,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        psa, crop = cfg.MODEL.PSA, cfg.INPUT.CROP
        if crop.ENABLED and crop.TYPE != "absolute" and not psa.MASK_SIZE:
            raise ValueError(
                f"INPUT.CROP.TYPE is {crop.TYPE!r}, but MODEL.PSA.MASK_SIZE [] takes the size of the masks from crops "
                "of a fixed size: set the one to 'absolute' or the other to a height and a width"
            )
        return {
            **super().from_config(cfg, input_shape),
            "mask_size": psa.MASK_SIZE,
            "channels": psa.CHANNELS,
            "attention_type": psa.TYPE,
            "shrink_factor": psa.SHRINK_FACTOR,
            "crop_size": tuple(crop.SIZE) if crop.ENABLED and crop.TYPE == "absolute" else None,
        }

    def context(self, x: torch.Tensor) -> torch.Tensor:
        return self.psa(x)
