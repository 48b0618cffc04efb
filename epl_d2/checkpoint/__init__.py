"""Checkpoints: those of other projects made loadable, those of a training safe."""

from .conversion import SOURCES, convert_state_dict, write_checkpoint
from .files import read_state_dict
from .loading import load_weights

__all__ = ["SOURCES", "convert_state_dict", "load_weights", "read_state_dict", "write_checkpoint"]
