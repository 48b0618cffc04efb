#!/usr/bin/env python
"""Time and memory of a training step with EPL, as a multiple of the step without.

    python tools/benchmark_step.py --config-file configs/Cityscapes/deeplab_v3_plus_R_50_os16.yaml --batch 4

Both models run forward, backward and an optimiser step on the same images, in turns. Images are noise, labels regions
of about a quarter of the image's side, 2 % ignored; weights are random.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from tabulate import tabulate

from epl_d2 import get_cfg
from epl_d2.engine import Trainer, prepare_config


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--size", nargs=2, type=int, default=[512, 1024], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20, help="of which the median is printed (20)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config options, KEY VALUE ...")
    args = parser.parse_args()
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    prepare_config(cfg)
    batch = make_batch(args.batch, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, *args.size)
    steps = {name: make_step(cfg, enabled, batch) for name, enabled in (("without EPL", False), ("with EPL", True))}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    peaks = dict.fromkeys(steps, 0)
    device = torch.device(cfg.MODEL.DEVICE)
    with EventStorage():
        for turn in range(args.steps + 2):  # the first two are not counted
            for name, step in steps.items():
                duration, peak = measure(step, device)
                if turn >= 2:
                    seconds[name].append(duration)
                    peaks[name] = max(peaks[name], peak)
    base = seconds["without EPL"]
    rows = []
    for name, mine in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(mine, base, strict=True))
        rows.append([name, statistics.median(mine), ratio, peaks[name] / 2**20 if device.type == "cuda" else None])
    print(f"{args.config_file}, {args.batch} x {args.size[0]} x {args.size[1]}, on {cfg.MODEL.DEVICE}")
    header = ["step", "seconds", "x without", "peak memory of both models and a step, MiB"]
    print(tabulate(rows, header, tablefmt="github", floatfmt=(None, ".4f", ".3f", ".0f"), missingval="-"))
    return 0


def make_batch(number: int, classes: int, height: int, width: int) -> list[dict[str, torch.Tensor]]:
    """Records with "image", ``[3, H, W]``, and "sem_seg", ``[H, W]``."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(number, classes, 4, 4, generator=generator)
    labels = torch.stack(
        [F.interpolate(one[None], size=(height, width), mode="bicubic")[0].argmax(0) for one in coarse]
    )
    labels[:, -max(1, height // 50) :] = 255
    images = torch.randint(0, 256, (number, 3, height, width), dtype=torch.uint8, generator=generator)
    return [{"image": image, "sem_seg": target} for image, target in zip(images, labels, strict=True)]


def make_step(cfg: CfgNode, enabled: bool, batch: list[dict[str, torch.Tensor]]):
    """A function that trains a model of its own by one step."""
    cfg = cfg.clone()
    cfg.MODEL.EPL.ENABLED = enabled
    model = Trainer.build_model(cfg).train()
    optimizer = Trainer.build_optimizer(cfg, model)

    def step() -> None:
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()

    return step


def measure(step, device: torch.device) -> tuple[float, int]:
    """Seconds, and the peak of the device's memory (0 on a CPU)."""
    if device.type != "cuda":
        started = time.perf_counter()
        step()
        return time.perf_counter() - started, 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    step()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started, torch.cuda.max_memory_allocated(device)


if __name__ == "__main__":
    sys.exit(main())
