#!/usr/bin/env python
"""Time and memory of the test-time protocols, beside the forward passes that they are made of.

python tools/benchmark_inference.py --config-file configs/CamVid/deeplab_v3_plus_mobilenet_v2_os16.yaml --size 360 480
python tools/benchmark_inference.py --config-file configs/Cityscapes/deeplab_v3_plus_mobilenet_v2_os16.yaml \
    --size 1024 2048 --opts TEST.WINDOW.SIZE [769,769] TEST.WINDOW.BATCH 2

For each protocol the table gives the time of one image, the part of it that is spent in the model's forward passes,
measured inside the same runs, their quotient, and the peak of the process's (on CUDA: the device's) memory. Weights are
random: neither time nor memory depends on them.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from tqdm import tqdm

from epl_d2.commands import command
from epl_d2.engine import Trainer, read_config, require_pixel_labels
from epl_d2.modeling import SemanticSegmentorWithTTA

PROTOCOLS = {
    "whole image": [],
    "windows": ["TEST.WINDOW.ENABLED", True],
    "windows, flip": ["TEST.WINDOW.ENABLED", True, "TEST.AUG.ENABLED", True, "TEST.AUG.SCALES", [1.0]],
    "windows, scales, flip": ["TEST.WINDOW.ENABLED", True, "TEST.AUG.ENABLED", True],
    "whole image, scales, flip": ["TEST.AUG.ENABLED", True],
}


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--size", nargs=2, type=int, default=[360, 480], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--protocols", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS))
    parser.add_argument("--runs", type=int, default=3, help="of which the median is printed (3)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config options, KEY VALUE ...")
    args = parser.parse_args()
    cfg = read_config(args.config_file, args.opts)
    require_pixel_labels(cfg, "the protocols are those of")
    model = Trainer.build_model(cfg).eval()
    image = torch.randint(0, 256, (3, *args.size), dtype=torch.uint8)
    rows = [[name, *measure(model, with_options(cfg, PROTOCOLS[name]), image, args.runs)] for name in args.protocols]
    print(f"{args.config_file}, {args.size[0]} x {args.size[1]} pixels, on {cfg.MODEL.DEVICE}")
    header = ["protocol", "passes", "image, s", "forward passes, s", "quotient", "peak memory, MiB"]
    print(tabulate(rows, header, tablefmt="github", floatfmt=(None, "d", ".3f", ".3f", ".3f", ".0f")))
    return 0


def with_options(cfg: CfgNode, options: list) -> CfgNode:
    cfg = cfg.clone()
    cfg.merge_from_list(options)
    return cfg


def measure(model: torch.nn.Module, cfg: CfgNode, image: torch.Tensor, runs: int) -> tuple:
    """Forward passes, seconds an image, seconds of its passes, their quotient and the peak of memory in MiB."""
    segmentor = SemanticSegmentorWithTTA(cfg, model)
    clock = PassClock(model)
    whole, passes = [], []
    try:
        for run in tqdm(range(runs + 1), unit="run", leave=False, disable=None):  # the first one is not counted
            clock.seconds, clock.count = 0.0, 0
            started = now(model)
            segmentor([{"image": image}])
            if run:
                whole.append(now(model) - started)
                passes.append(clock.seconds)
            else:
                reset_peak(model)
    finally:
        clock.stop()
    quotient = statistics.median(total / part for total, part in zip(whole, passes, strict=True))
    return clock.count, statistics.median(whole), statistics.median(passes), quotient, peak(model) / 2**20


class PassClock:
    """Sums up the time of `model.predict`."""

    def __init__(self, model: torch.nn.Module):
        self.seconds, self.count = 0.0, 0
        self._model = model
        predict = model.predict

        def timed(*args):
            started = now(model)
            result = predict(*args)
            self.seconds += now(model) - started
            self.count += 1
            return result

        model.predict = timed

    def stop(self) -> None:
        del self._model.predict  # the class's own is seen again


def now(model: torch.nn.Module) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()


def reset_peak(model: torch.nn.Module) -> None:
    gc.collect()
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)


def peak(model: torch.nn.Module) -> int:
    """Bytes; on a CPU those of the process so far, so that protocols belong in the order of what they need."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main())
