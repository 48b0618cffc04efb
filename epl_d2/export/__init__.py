"""Trained models as files that run without this package."""

from .export import export_model
from .formats import FORMATS, ExportError, read_metadata
from .parity import ParityError, check_parity
from .segmentor import OUTPUTS, PictureSegmentor

__all__ = [
    "FORMATS",
    "OUTPUTS",
    "ExportError",
    "ParityError",
    "PictureSegmentor",
    "check_parity",
    "export_model",
    "read_metadata",
]
