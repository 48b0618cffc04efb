"""Meta-architectures: what surrounds a backbone and its semantic segmentation head."""

from .semantic_segmentor import EPLSemanticSegmentor
from .test_time_augmentation import SemanticSegmentorWithTTA, with_test_time_protocol

__all__ = ["EPLSemanticSegmentor", "SemanticSegmentorWithTTA", "with_test_time_protocol"]
