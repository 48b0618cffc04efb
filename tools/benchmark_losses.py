#!/usr/bin/env python
"""Time and memory of the EPL losses beside cross entropy and other losses for segmentation.

Each loss runs forward and backward on the same logits and labels, in turns, so that a slow moment of the machine meets
all of them. A number is the median over the turns of its time as a multiple of the cross entropy of the same turn (of
the binary one, for masks), and the fastest of its turns in nanoseconds a logit. With one thread on a CPU it is the
processor's time, which other jobs on the machine change little, else that of a clock. The extra memory is the peak of
what is allocated during one forward and backward, as a multiple of the logits' bytes (the gradient of the logits, once
their size, is part of it).

    python tools/benchmark_losses.py                                   # the CPU table of docs/performance.md
    python tools/benchmark_losses.py --device cuda                     # the same for a GPU
    python tools/benchmark_losses.py --shape 4 19 256 512 --present 10 --kernel-size 11 --splitter C
    python tools/benchmark_losses.py --mode binary                     # masks of instances
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no chatter of the profiler

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from epl_d2.commands import command
from epl_d2.contours import signed_distance
from epl_d2.losses import (
    EPLLoss,
    boundary_f_loss,
    boundary_loss,
    generalized_dice_loss,
    line_loss,
    lovasz_softmax_loss,
    point_loss,
)

# (N, K, H, W) and how many classes occur in the labels of an image.
SHAPES = {
    "cpu": [((2, 21, 256, 256), 13), ((1, 19, 512, 512), 17), ((2, 21, 256, 256), 3)],
    "cuda": [((4, 19, 512, 1024), 17), ((16, 21, 512, 512), 13), ((16, 21, 512, 512), 3)],
}
# The masks of a Mask R-CNN with 512 positive boxes, of a point head's size, and of two whole images with 8 classes.
MASK_SHAPES = [(512, 1, 28, 28), (100, 1, 112, 112), (16, 1, 512, 512)]
Loss = Callable[[Tensor, Tensor], Tensor]


def make_scene(shape: tuple[int, int, int, int], present: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits ``[N, K, H, W]`` of a half-trained model and labels ``[N, H, W]``: regions about 8 a side, 2 % ignored."""
    n, k, h, w = shape
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, present, 8, max(2, 8 * w // h), generator=generator)
    labels = F.interpolate(coarse, size=(h, w), mode="bicubic").argmax(dim=1)
    prediction = F.interpolate(coarse, size=(h, w), mode="bilinear").argmax(dim=1)
    logits = 4 * F.one_hot(prediction, k).movedim(3, 1) + 0.5 * torch.randn(n, k, h, w, generator=generator)
    labels[:, -max(1, h // 50) :] = 255
    return logits.contiguous(), labels


def make_masks(shape: tuple[int, int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Logits ``[N, 1, H, W]`` and masks of the same shape, bool: one or two objects that fill half of it."""
    n, k, h, w = shape
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, k, 3, 3, generator=generator)
    masks = F.interpolate(coarse, size=(h, w), mode="bicubic") > 0
    prediction = F.interpolate(coarse, size=(h, w), mode="bilinear")
    return 4 * prediction + 0.5 * torch.randn(shape, generator=generator), masks


def mask_losses(masks: Tensor, kernel_size: int, splitter: str) -> dict[str, Loss]:
    """The losses of masks by name; binary cross entropy first."""
    floats = masks.float()  # as it takes them
    options = {"kernel_size": kernel_size, "splitter": splitter, "mode": "binary"}
    both = {"point_kernel_size": kernel_size, "line_kernel_size": kernel_size, "splitter": splitter}
    epl = EPLLoss(mode="binary", point_weight=1, line_weight=1, **both)
    return {
        "binary cross entropy": lambda x, _: F.binary_cross_entropy_with_logits(x, floats),
        "EPL point": lambda x, y: point_loss(x, y, **options),
        "EPL line, contour": lambda x, y: line_loss(x, y, **options),
        "EPLLoss: point and line, contour": lambda x, y: sum(epl(x, y).values()),
        "EPL line of softmax over (0, logit)": lambda x, y: line_loss(
            torch.cat((torch.zeros_like(x), x), dim=1), y[:, 0].long(), kernel_size=kernel_size, splitter=splitter
        ),
    }


def signed_distances(labels: Tensor, classes: int) -> Tensor:
    """The maps of the boundary loss, which training computes in the loader's workers: ``[N, K, H, W]``."""
    maps = np.stack([signed_distance(label, classes) for label in labels.cpu().numpy()])
    return torch.from_numpy(maps).to(labels.device)


def losses_to_compare(logits: Tensor, labels: Tensor, kernel_size: int, splitter: str) -> dict[str, Loss]:
    """The losses by name; cross entropy first."""
    cached = signed_distances(labels, logits.shape[1])
    options = {"kernel_size": kernel_size, "splitter": splitter}

    both = {"point_kernel_size": kernel_size, "line_kernel_size": kernel_size, "splitter": splitter}
    epl, excluding = (
        EPLLoss(point_weight=1, line_weight=1, formulation="contour", ignore_mode=mode, **both)
        for mode in ("nearest", "exclude")
    )

    return {
        "cross entropy": lambda x, y: F.cross_entropy(x, y, ignore_index=255),
        "generalized dice": generalized_dice_loss,
        "boundary (Kervadec), maps given": lambda x, y: boundary_loss(x, y, cached),
        "boundary (Kervadec), maps computed": lambda x, y: boundary_loss(x, y, signed_distances(y, x.shape[1])),
        "Lovász-Softmax": lovasz_softmax_loss,
        "boundary F": boundary_f_loss,
        "EPL point": lambda x, y: point_loss(x, y, **options),
        "EPL point, on the lines": lambda x, y: point_loss(x, y, region="lines", **options),
        "EPL point, L1": lambda x, y: point_loss(x, y, norm="l1", **options),
        "EPL line, official": lambda x, y: line_loss(x, y, formulation="official", **options),
        "EPL line, contour": lambda x, y: line_loss(x, y, formulation="contour", **options),
        "EPL line, contour, mu 2": lambda x, y: line_loss(x, y, formulation="contour", mu=2, **options),
        "EPL line, band": lambda x, y: line_loss(x, y, formulation="band", **options),
        "EPL point, then EPL line, contour": lambda x, y: (
            point_loss(x, y, **options) + line_loss(x, y, formulation="contour", **options)
        ),
        "EPLLoss: point and line, contour": lambda x, y: sum(epl(x, y).values()),
        "EPLLoss, ignored pixels excluded": lambda x, y: sum(excluding(x, y).values()),
    }


def run(loss: Loss, logits: Tensor, labels: Tensor) -> None:
    """One forward and backward."""
    logits.grad = None
    loss(logits, labels).backward()


def seconds(loss: Loss, logits: Tensor, labels: Tensor) -> float:
    """Duration of one forward and backward."""
    if logits.is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run(loss, logits, labels)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    run(loss, logits, labels)
    return clock() - begin


def extra_memory(loss: Loss, logits: Tensor, labels: Tensor) -> int:
    """Peak of the bytes that PyTorch allocates during one forward and backward."""
    logits.grad = None
    if logits.is_cuda:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run(loss, logits, labels)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run(loss, logits, labels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak


@command
def main() -> None:
    """Parse the arguments and print one table a shape."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mode", default="multiclass", choices=["multiclass", "binary"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2, help="threads on a CPU")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--kernel-size", type=int, default=7)
    parser.add_argument("--splitter", default="A")
    parser.add_argument("--shape", type=int, nargs=4, metavar=("N", "K", "H", "W"), help="default: those of the docs")
    parser.add_argument("--present", type=int, help="classes that occur in the labels (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch.cuda.is_available() is False")
    if args.present is not None and not (args.shape and 1 <= args.present <= args.shape[1]):
        parser.error("--present needs --shape, and lies in 1..K")
    binary = args.mode == "binary"
    if binary and args.shape and args.shape[1] != 1:
        parser.error("--mode binary takes one channel: --shape N 1 H W")
    torch.set_num_threads(args.threads)
    shapes = [(tuple(args.shape), args.present or args.shape[1])] if args.shape else SHAPES[args.device]
    if binary and not args.shape:
        shapes = [(shape, 1) for shape in MASK_SHAPES]
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {args.threads} threads"
    print(f"torch {torch.__version__}, {where}, kernel {args.kernel_size}, splitter {args.splitter}")

    for shape, present in shapes:
        made = make_masks(shape, args.seed) if binary else make_scene(shape, present, args.seed)
        logits, labels = (tensor.to(args.device) for tensor in made)
        logits.requires_grad_()
        rays = args.kernel_size, args.splitter
        losses = mask_losses(labels, *rays) if binary else losses_to_compare(logits, labels, *rays)
        turns: dict[str, list[float]] = {name: [] for name in losses}
        for turn in tqdm(range(args.repeats + 2), desc=str(list(shape)), unit="turn", leave=False, disable=None):
            for name, loss in losses.items():
                duration = seconds(loss, logits, labels)
                if turn >= 2:
                    turns[name].append(duration)
        base_name, *_ = losses
        what = f"{list(shape)}" if binary else f"{list(shape)}, {present} classes present"
        print(f"\n| {what} | ms | ns a logit | x {base_name} | extra memory, x logits |")
        print("| --- | --- | --- | --- | --- |")
        reference = turns[base_name]
        for name, loss in losses.items():
            ratio = statistics.median(mine / base for mine, base in zip(turns[name], reference, strict=True))
            memory = extra_memory(loss, logits, labels) / (logits.numel() * logits.element_size())
            fastest = 1e9 * min(turns[name]) / logits.numel()
            median = 1000 * statistics.median(turns[name])
            print(f"| {name} | {median:.1f} | {fastest:.1f} | {ratio:.1f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
