"""Checkpoints of speedinghzl/CCNet, and of the deep-stem ResNets that it starts from."""

from __future__ import annotations

from .renaming import CLASSIFIER, NORM_ENTRY, rename, rename_entries
from .resnet import rename_resnet
from .state_dict import StateDict

__all__ = ["convert"]

_HEAD_RULES = (
    (r"head\.(conva|convb)\.0\.weight", r"\1.weight"),
    (rf"head\.(conva|convb)\.1\.{NORM_ENTRY}", r"\1.norm.\2"),
    (r"head\.(cca\.gamma|cca\.(?:query|key|value)_conv\.(?:weight|bias))", r"\1"),
    (r"head\.bottleneck\.0\.weight", r"bottleneck.0.weight"),
    (r"dsn\.0\.(weight|bias)", r"dsn.0.\1"),
    (rf"(?:head\.(bottleneck)|(dsn))\.1\.{NORM_ENTRY}", r"\1\2.0.norm.\3"),
    (r"(?:head\.(bottleneck)|(dsn))\.3\.(weight|bias)", r"\1\2.2.\3"),
)
# InPlaceABN scales by |weight| + eps where BatchNorm scales by weight.
_ABN_EPS = 1e-5


def convert(state_dict: StateDict) -> StateDict:
    """CCNet -> deep-stem ResNet and `EPLCCHead`; an ImageNet ResNet's classifier `fc` is dropped.

    Every norm's weight w becomes |w| + 1e-5: the reference's norms are InPlaceABN.

    Raises:
        ValueError: an entry is none of CCNet's.
    """
    complaint = "this is no state dict of speedinghzl/CCNet on a ResNet"
    converted = rename_entries(state_dict, _rename, complaint, dropped=CLASSIFIER)
    return {
        name: tensor.abs() + _ABN_EPS if name.endswith(".norm.weight") else tensor for name, tensor in converted.items()
    }


def _rename(name: str) -> str | None:
    if renamed := rename_resnet(name, deep_stem=True):
        return f"backbone.{renamed}"
    if renamed := rename(name, _HEAD_RULES):
        return f"sem_seg_head.{renamed}"
    return None
