"""Mask heads of R-CNNs: each is its baseline plus the EPL terms on the masks of the ground-truth classes."""

from .conv_upsample import EPLMaskRCNNConvUpsampleHead

__all__ = ["EPLMaskRCNNConvUpsampleHead"]
