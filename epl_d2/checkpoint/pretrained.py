"""torchvision's ImageNet weights by the names that the configs give them: fetched, checked and converted once."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import torch

from .conversion import convert_state_dict, write_checkpoint
from .files import read_state_dict

__all__ = ["NAMED_WEIGHTS", "named_weights"]

logger = logging.getLogger(__name__)

_SERVER = "https://download.pytorch.org/models/"
_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class _File:
    """A file of torchvision's, whose name ends in the first digits of its SHA-256."""

    name: str
    fpn: bool = False

    @property
    def digits(self) -> str:
        return Path(self.name).stem.rpartition("-")[2]


# MODEL.WEIGHTS -> what stands for it where there is no such file.
NAMED_WEIGHTS = {
    "weights/mobilenet_v2.pth": _File("mobilenet_v2-b0353104.pth"),
    "weights/mobilenet_v2_fpn.pth": _File("mobilenet_v2-b0353104.pth", fpn=True),
    "weights/resnet50.pth": _File("resnet50-11ad3fa6.pth"),
    "weights/resnet101.pth": _File("resnet101-63fe2227.pth"),
}


def named_weights(path: str, *, fetch: bool = True) -> str:
    """The file to begin a training with.

    Args:
        path: MODEL.WEIGHTS.
        fetch: also fetch and convert what the cache lacks; without, `path` stands for it.

    Returns:
        `path`; but where there is no such file and it is a key of `NAMED_WEIGHTS`, torchvision's weights under
        Detectron2's names, in PyTorch's cache (TORCH_HOME, by default ~/.cache/torch), fetched if they are not there.

    Raises:
        FileNotFoundError: they cannot be fetched; the message says by which command they can be made.
        ValueError: a file in the cache is damaged.
    """
    wanted = NAMED_WEIGHTS.get(os.path.normpath(path).replace(os.sep, "/")) if path else None
    if wanted is None or os.path.exists(path):
        return path
    cache = Path(torch.hub.get_dir(), "checkpoints")
    converted = cache / f"epl_d2_{Path(wanted.name).stem}{'_fpn' if wanted.fpn else ''}.pth"
    if not converted.is_file():
        if not fetch:
            return path
        original = cache / wanted.name
        if not original.is_file():
            _fetch(wanted, original, path)
        if not _sha256(original).startswith(wanted.digits):
            raise ValueError(f"{original} is damaged: its SHA-256 does not begin with {wanted.digits}; remove it")
        write_checkpoint(convert_state_dict(read_state_dict(original), "torchvision", fpn=wanted.fpn), converted)
    logger.info(f"{path} is not here: taking torchvision's {wanted.name}, converted in {converted}")
    return str(converted)


def _fetch(wanted: _File, target: Path, path: str) -> None:
    address = _SERVER + wanted.name
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(target), hash_prefix=wanted.digits, progress=True)
    except (OSError, RuntimeError) as error:  # no network, a full disk; another hash
        fpn = "--fpn " if wanted.fpn else ""
        raise FileNotFoundError(
            f"MODEL.WEIGHTS {path} is not here, and {address} cannot be fetched: {error}. Fetch it elsewhere, then run "
            f"`python tools/convert_checkpoint.py --from torchvision {fpn}{wanted.name} {path}`; or put it into "
            f"{target.parent}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
