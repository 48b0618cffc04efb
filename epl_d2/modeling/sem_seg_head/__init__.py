"""Semantic segmentation heads: each is its baseline plus the EPL terms in `losses()`."""

from .deeplab_v3 import EPLDeepLabV3Head
from .deeplab_v3_plus import EPLDeepLabV3PlusHead
from .semantic_fpn import EPLSemSegFPNHead

__all__ = ["EPLDeepLabV3Head", "EPLDeepLabV3PlusHead", "EPLSemSegFPNHead"]
