#!/usr/bin/env python
"""What the model of a config costs: parameters, operations, activations, and a training step with and without EPL.

python tools/analyze_model.py --config-file configs/CamVid/deeplab_v3_plus_mobilenet_v2_os16_epl.yaml
python tools/analyze_model.py --config-file ... --tasks parameters flops --size 1024 2048 MODEL.DEVICE cpu

Operations and activations are those of inference on one image, where EPL has no part. The step is forward and backward
on noise with random regions as labels. Steps with and without EPL take turns; the median is shown, and the quartiles in
brackets. What EPL adds is measured turn by turn.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import numpy as np
import torch
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from tqdm import tqdm

from epl_d2.analysis.cost import (
    count_inference,
    parameters_by_part,
    saved_for_backward,
    synthetic_batch,
    time_in_turns,
)
from epl_d2.commands import add_overrides, command
from epl_d2.engine import Trainer, read_config, require_own_head, require_own_segmentor, require_pixel_labels
from epl_d2.modeling import build_epl_loss

TASKS = ("parameters", "flops", "step")


def with_epl(cfg):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.EPL.ENABLED = True
    return build_epl_loss(cfg)


def with_quartiles(values: np.ndarray) -> str:
    """The median of some values and, in brackets, their quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def print_parameters(model: torch.nn.Module) -> None:
    counts = parameters_by_part(model)
    rows = [*counts.items(), ("all", sum(counts.values()))]
    print(tabulate(rows, ("part", "trainable parameters"), intfmt=","))


def print_step(cfg, model: torch.nn.Module, images: int, size: tuple[int, int], repetitions: int) -> None:
    records = synthetic_batch(cfg, images, size)
    terms = {"without EPL": None, "with EPL": with_epl(cfg)}
    model.train()

    def forward(name: str) -> torch.Tensor:
        model.sem_seg_head.epl = terms[name]
        # Where both kinds of its schedule have come to their end.
        with EventStorage(cfg.SOLVER.MAX_ITER + cfg.MODEL.EPL.START_ITER + cfg.MODEL.EPL.RAMP_ITERS):
            return sum(model(records).values())

    def step(name: str) -> None:
        model.zero_grad(set_to_none=True)
        forward(name).backward()

    progress = partial(tqdm, unit="turn", leave=False, disable=None)
    steps = {name: lambda name=name: step(name) for name in terms}
    seconds = time_in_turns(steps, repetitions, model.device, progress)
    header = ["step", "ms", "MiB kept for backward"]
    rows = []
    for name in terms:
        saved = saved_for_backward(lambda name=name: forward(name))
        rows.append([name, with_quartiles(1e3 * np.array(seconds[name])), saved / 2**20])
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
            step(name)
            rows[-1].append(torch.cuda.max_memory_allocated(model.device) / 2**20)
    if model.device.type == "cuda":
        header.append("MiB at the peak")
    alignment = ("left", *["right"] * (len(header) - 1))
    print(tabulate(rows, header, floatfmt=".1f", disable_numparse=[1], colalign=alignment))
    without, with_term = (np.array(seconds[name]) for name in terms)
    print(f"EPL adds {with_quartiles(100 * (with_term / without - 1))} percent to the time of a step")


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="pixels; default INPUT.CROP.SIZE")
    parser.add_argument("--images", type=int, default=2, help="images of the training step (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=11, help="timed steps of each kind (default: %(default)s)")
    add_overrides(parser)
    args = parser.parse_args()
    for name in ("images", "repetitions"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}, expected at least 1")
    cfg = read_config(args.config_file, args.opts)
    cfg.freeze()
    require_pixel_labels(cfg, "counted is")
    if "flops" in args.tasks:
        require_own_segmentor(cfg, "--tasks flops needs")
    if "step" in args.tasks:
        require_own_head(cfg, "--tasks step, with and without EPL, needs")
    size = tuple(args.size or cfg.INPUT.CROP.SIZE)
    model = Trainer.build_model(cfg)
    if "parameters" in args.tasks:
        print_parameters(model)
    if "flops" in args.tasks:
        operations, activations = count_inference(model, size)
        print(
            f"inference at {size[0]} x {size[1]}: {operations / 1e9:.3f} G multiply-adds, "
            f"{activations / 1e6:.3f} M activations"
        )
    if "step" in args.tasks:
        print(f"training step, {args.images} images of {size[0]} x {size[1]}, {model.device}:")
        print_step(cfg, model, args.images, size, args.repetitions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
