"""DeepLabV3+ with EPL."""

from __future__ import annotations

from detectron2.config import configurable
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.projects.deeplab import DeepLabV3PlusHead
from torch import nn

from epl_d2.losses import EPLLoss
from epl_d2.modeling.layers.image_pooling import pooling_window, set_pooling_window
from epl_d2.modeling.losses.extra_losses import ExtraLosses

from .deeplab_v3 import baseline_config
from .mixin import EPLHeadMixin

__all__ = ["EPLDeepLabV3PlusHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class EPLDeepLabV3PlusHead(EPLHeadMixin, DeepLabV3PlusHead):
    """Detectron2's `DeepLabV3PlusHead` (arXiv 1802.02611) with the EPL terms, for crops and test images of any size."""

    @configurable
    def __init__(
        self,
        input_shape,
        *,
        loss: nn.Module,
        epl: EPLLoss | None = None,
        extra_losses: ExtraLosses | None = None,
        pooling_window: tuple[int, int] | None = None,
        **kwargs,
    ):
        """
        Args:
            input_shape: shapes of the backbone's features.
            loss, epl, extra_losses: see `EPLHeadMixin.set_losses`.
            pooling_window: (height, width) of the image pooling of the ASPP in feature pixels; None pools globally.
            kwargs: the other arguments of `DeepLabV3PlusHead`.
        """
        super().__init__(input_shape, train_size=None, **kwargs)
        set_pooling_window(self.decoder[self.in_features[-1]]["project_conv"], pooling_window)
        self.set_losses(loss, epl, extra_losses)

    @classmethod
    def from_config(cls, cfg, input_shape):
        arguments = super().from_config(baseline_config(cfg), input_shape)
        del arguments["train_size"]
        encoder_stride = max(shape.stride for shape in arguments["input_shape"].values())
        window = pooling_window(cfg, encoder_stride)
        return {**arguments, **cls.losses_from_config(cfg), "pooling_window": window}
