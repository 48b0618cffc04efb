"""Meta-architectures: what surrounds a backbone and its semantic segmentation head."""

from .semantic_segmentor import EPLSemanticSegmentor

__all__ = ["EPLSemanticSegmentor"]
