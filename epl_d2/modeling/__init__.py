"""Backbones, semantic segmentation heads and mask heads, registered with Detectron2."""

from .backbone import DRN, MobileNetV2, WideResNet38, build_ccnet_resnet_backbone
from .losses import build_epl_loss, build_extra_losses, build_mask_epl_loss
from .mask_head import EPLMaskRCNNConvUpsampleHead, EPLPointRendMaskHead, EPLPointRendROIHeads
from .meta_arch import EPLSemanticSegmentor, SemanticSegmentorWithTTA, with_test_time_protocol
from .sem_seg_head import (
    EPLCCHead,
    EPLDeepLabV3Head,
    EPLDeepLabV3PlusHead,
    EPLGSCNNHead,
    EPLHeadMixin,
    EPLNVIDIADeepLabV3PlusHead,
    EPLPSAHead,
    EPLPSPHead,
    EPLPyTorchDeepLabHead,
    EPLSemSegFPNHead,
)

__all__ = [
    "DRN",
    "EPLCCHead",
    "EPLDeepLabV3Head",
    "EPLDeepLabV3PlusHead",
    "EPLGSCNNHead",
    "EPLHeadMixin",
    "EPLMaskRCNNConvUpsampleHead",
    "EPLNVIDIADeepLabV3PlusHead",
    "EPLPSAHead",
    "EPLPSPHead",
    "EPLPointRendMaskHead",
    "EPLPointRendROIHeads",
    "EPLPyTorchDeepLabHead",
    "EPLSemSegFPNHead",
    "EPLSemanticSegmentor",
    "MobileNetV2",
    "SemanticSegmentorWithTTA",
    "WideResNet38",
    "build_ccnet_resnet_backbone",
    "build_epl_loss",
    "build_extra_losses",
    "build_mask_epl_loss",
    "with_test_time_protocol",
]
