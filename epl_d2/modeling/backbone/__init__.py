"""Backbones, registered with Detectron2."""

from .ccnet_resnet import build_ccnet_resnet_backbone
from .drn import DRN
from .mobilenet_v2 import MobileNetV2, build_mobilenet_v2_fpn_backbone
from .wide_resnet import WideResNet38

__all__ = [
    "DRN",
    "MobileNetV2",
    "WideResNet38",
    "build_ccnet_resnet_backbone",
    "build_mobilenet_v2_fpn_backbone",
]
