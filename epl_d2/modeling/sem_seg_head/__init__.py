"""Semantic segmentation heads: each is its baseline plus the EPL terms in `losses()`."""

from .cc import EPLCCHead
from .deeplab_v3 import EPLDeepLabV3Head
from .deeplab_v3_plus import EPLDeepLabV3PlusHead
from .gscnn import EPLGSCNNHead
from .mixin import EPLHeadMixin
from .nvidia_deeplab_v3_plus import EPLNVIDIADeepLabV3PlusHead
from .psa import EPLPSAHead
from .psp import EPLPSPHead
from .pytorch_deeplab import EPLPyTorchDeepLabHead
from .semantic_fpn import EPLSemSegFPNHead

__all__ = [
    "EPLCCHead",
    "EPLDeepLabV3Head",
    "EPLDeepLabV3PlusHead",
    "EPLGSCNNHead",
    "EPLHeadMixin",
    "EPLNVIDIADeepLabV3PlusHead",
    "EPLPSAHead",
    "EPLPSPHead",
    "EPLPyTorchDeepLabHead",
    "EPLSemSegFPNHead",
]
