"""Mask heads of R-CNNs: each is its baseline plus the EPL terms on the masks of the ground-truth classes."""

from .conv_upsample import EPLMaskRCNNConvUpsampleHead
from .point_rend import EPLPointRendMaskHead, EPLPointRendROIHeads

__all__ = ["EPLMaskRCNNConvUpsampleHead", "EPLPointRendMaskHead", "EPLPointRendROIHeads"]
