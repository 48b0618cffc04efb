"""Trained models as files that run without this package."""

from .export import export_model
from .formats import FORMATS, ExportError, SideLimits, read_metadata, side_limits
from .parity import ParityError, check_parity
from .segmentor import OUTPUTS, PictureSegmentor

__all__ = [
    "FORMATS",
    "OUTPUTS",
    "ExportError",
    "ParityError",
    "PictureSegmentor",
    "SideLimits",
    "check_parity",
    "export_model",
    "read_metadata",
    "side_limits",
]
