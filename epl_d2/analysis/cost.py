"""What a model costs: parameters, floating point operations, activations, and time and memory of a training step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from torch import nn

from epl_d2.data.maps import build_maps

__all__ = ["count_inference", "parameters_by_part", "saved_for_backward", "synthetic_batch", "time_in_turns"]


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """Trainable parameters of the backbone and of each part of the head; a shared parameter counts once."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = "backbone" if name.startswith("backbone.") else ".".join(name.split(".")[:2])
            counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def count_inference(model: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """(multiply-adds, activations) of one image, as fvcore counts them: activations are outputs of convolutions and
    matrix products.

    Args:
        model: an `EPLSemanticSegmentor`.
        size: (H, W) of the image in pixels; the model pads it where its backbone needs that.
    """
    network = _Prediction(model).eval()
    image = model.batch([torch.zeros(3, *size)]).tensor
    with torch.no_grad():
        analyses = FlopCountAnalysis(network, image), ActivationCountAnalysis(network, image)
        for analysis in analyses:
            # Element-wise operations are not counted, which fvcore would list one by one.
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        return analyses[0].total(), analyses[1].total()


def synthetic_batch(cfg: CfgNode, images: int, size: tuple[int, int], seed: int = 0) -> list[dict[str, Any]]:
    """Training records of noise with labels in contiguous regions, and the maps that `cfg` asks for.

    Args:
        cfg: a full config.
        images: their number.
        size: (H, W) of each in pixels.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    maps = build_maps(cfg)
    rows, columns = np.mgrid[: size[0], : size[1]]
    records = []
    for _ in range(images):
        centers = rng.uniform(0, 1, (3 * cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, 2)) * size
        classes = rng.integers(0, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, len(centers))
        distances = [(rows - y) ** 2 + (columns - x) ** 2 for y, x in centers]
        label = classes[np.argmin(distances, axis=0)].astype(np.int64)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        record = {"image": torch.from_numpy(image.transpose(2, 0, 1).copy()), "sem_seg": torch.from_numpy(label)}
        if maps:
            record["maps"] = {m.name: torch.from_numpy(m.compute(image, label)) for m in maps}
        records.append(record)
    return records


def saved_for_backward(step: Callable[[], torch.Tensor]) -> int:
    """Bytes of the distinct tensors that autograd keeps between the forward and the backward pass of `step`.

    Parameters and buffers that are kept count as well.

    Args:
        step: runs the forward pass and returns the loss.
    """
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = step()
        total = sum(storages.values())
    del loss
    return total


def time_in_turns(
    steps: dict[str, Callable[[], Any]],
    repetitions: int,
    device: torch.device,
    progress: Callable[[range], Iterable[int]] = iter,
) -> dict[str, list[float]]:
    """Seconds of each step, one value a turn.

    The steps take turns, in reverse order every second time: other work on the machine meets all of them, and none
    always follows the same other. So the values of a turn belong together, and can be compared as pairs.

    `progress` is given the turns, the first of which warms up, and gives them back one by one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in progress(range(repetitions + 1)):
        for name in reversed(steps) if turn % 2 else steps:
            start = _now(device)
            steps[name]()
            if turn:  # the first turn warms up
                seconds[name].append(_now(device) - start)
    return seconds


class _Prediction(nn.Module):
    """The inference of a segmentor as a module of one tensor, which is what fvcore traces."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model.predict(image)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
