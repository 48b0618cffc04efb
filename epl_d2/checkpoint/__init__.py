"""Checkpoints of other projects, made loadable."""

from .conversion import SOURCES, convert_state_dict, read_state_dict, write_checkpoint

__all__ = ["SOURCES", "convert_state_dict", "read_state_dict", "write_checkpoint"]
