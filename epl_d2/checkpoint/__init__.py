"""Checkpoints: those of other projects made loadable, those of a training safe."""

from .conversion import SOURCES, convert_state_dict, write_checkpoint
from .files import read_state_dict

__all__ = ["SOURCES", "convert_state_dict", "read_state_dict", "write_checkpoint"]
