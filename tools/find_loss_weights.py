#!/usr/bin/env python
"""Weights at which added losses have a gradient of a wanted size, as a multiple of the criterion's.

    python tools/find_loss_weights.py --config-file configs/CamVid/deeplab_v3_plus_mobilenet_v2_os16.yaml \\
        --sizes MODEL.EPL.LINE.WEIGHT=1.5 MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT=0.5 --opts MODEL.EPL.ENABLED True

Sizes are sums of absolute gradients at the logits on a few batches of the training data, at MODEL.WEIGHTS: the start of
a training. Two losses at one size pull equally hard, whatever their scales. A grid does this for a method with `size`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
from detectron2.utils.env import seed_all_rng
from tqdm import tqdm

from epl_d2.analysis.loss_weights import added_losses, check_sizes, weights_for_sizes, with_unit_weights
from epl_d2.checkpoint.checkpointer import Checkpointer
from epl_d2.commands import command
from epl_d2.engine import Trainer, check_datasets, read_config, require_own_head, require_pixel_labels
from epl_d2.files import write_whole


def read_sizes(pairs: list[str]) -> dict[str, float]:
    """KEY=SIZE of the command line.

    Raises:
        ValueError: a size is no number, or a key has two.
    """
    sizes: dict[str, float] = {}
    for pair in pairs:
        key, _, size = pair.partition("=")
        if key in sizes:
            raise ValueError(f"--sizes has {key} twice; which of its sizes is meant?")
        try:
            sizes[key] = float(size)
        except ValueError:
            raise ValueError(f"--sizes takes KEY=NUMBER, got {pair!r}") from None
    return sizes


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE")
    add("--sizes", nargs="+", required=True, metavar="KEY=SIZE", help="KEY is that of the weight of a loss")
    add("--batches", type=int, default=8, help="of the training data (default: %(default)s)")
    add("--output", type=Path, help="JSON file for sizes and weights")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...; comes last")
    args = parser.parse_args()
    if args.batches < 1:
        parser.error(f"--batches is {args.batches}, expected at least 1")
    sizes = read_sizes(args.sizes)
    cfg = read_config(args.config_file, args.opts)
    require_pixel_labels(cfg, "the gradients are those at the logits of")
    require_own_head(cfg, "the gradients at the logits need")
    check_sizes(cfg, sizes)
    cfg = with_unit_weights(cfg, sizes)
    check_datasets(cfg, training=True)
    seed_all_rng(cfg.SEED if cfg.SEED >= 0 else None)
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    batches = itertools.islice(Trainer.build_train_loader(cfg), args.batches)
    shown = tqdm(batches, total=args.batches, unit="batch", disable=None)
    weights = weights_for_sizes(model, shown, sizes, added_losses(cfg))
    for key, weight in weights.items():
        print(f"{key} {weight:.6g}")
    if args.output is not None:
        record = {"batches": args.batches, "sizes": sizes, "weights": weights}
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(args.output, lambda path: path.write_text(json.dumps(record, indent=1) + "\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
