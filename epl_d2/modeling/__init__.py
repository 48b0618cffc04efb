"""Backbones and semantic segmentation heads, registered with Detectron2."""

from .backbone import MobileNetV2
from .epl import build_epl_loss
from .meta_arch import EPLSemanticSegmentor
from .sem_seg_head import EPLDeepLabV3Head, EPLDeepLabV3PlusHead, EPLSemSegFPNHead

__all__ = [
    "EPLDeepLabV3Head",
    "EPLDeepLabV3PlusHead",
    "EPLSemSegFPNHead",
    "EPLSemanticSegmentor",
    "MobileNetV2",
    "build_epl_loss",
]
