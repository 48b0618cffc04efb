#!/usr/bin/env python
"""Where each term of the loss pulls: size of its gradient beside cross entropy's, and how much of it lies at contours.

    python tools/analyze_gradients.py --config-file configs/CamVid/deeplab_v3_plus_mobilenet_v2_os16_epl.yaml \\
        MODEL.WEIGHTS output/model_final.pth

Helps to choose weights: a term whose gradient at contours is a hundredth of cross entropy's changes little there, one
that is many times cross entropy's takes over. Gradients are those at the logits, upsampled to the labels, on batches
of the training data. Of models of instances they are those at the masks of the foreground proposals, in pixels of the
masks.
"""

from __future__ import annotations

import argparse
import itertools
import sys

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
from detectron2.utils.env import seed_all_rng
from tqdm import tqdm

from epl_d2.analysis.gradients import analyze_gradients, analyze_mask_gradients
from epl_d2.checkpoint.checkpointer import Checkpointer
from epl_d2.commands import add_overrides, command
from epl_d2.engine import Trainer, check_datasets, read_config, require_own_head
from epl_d2.experiments.results import markdown_table


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--batches", type=int, default=8, help="of the training data (default: %(default)s)")
    parser.add_argument(
        "--widths", type=int, nargs="+", default=[1, 3, 9], help="pixels from the contour (default: 1 3 9)"
    )
    add_overrides(parser)
    args = parser.parse_args()
    for name, value in (("batches", args.batches), ("widths", min(args.widths))):
        if value < 1:
            parser.error(f"--{name} is {value}, expected at least 1")
    cfg = read_config(args.config_file, args.opts)
    cfg.freeze()
    if not cfg.MODEL.MASK_ON:
        require_own_head(cfg, "the gradients at the logits need")
    check_datasets(cfg, training=True)
    seed_all_rng(cfg.SEED if cfg.SEED >= 0 else None)
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    batches = itertools.islice(Trainer.build_train_loader(cfg), args.batches)
    shown = tqdm(batches, total=args.batches, unit="batch", disable=None)
    analyze = analyze_mask_gradients if cfg.MODEL.MASK_ON else analyze_gradients
    terms, pixels = analyze(model, shown, args.widths)
    bands = [f"{width} px" for width in args.widths]
    print(f"gradient at the logits; `size` as a multiple of {terms[0].name}'s, `share` in percent of the term's own\n")
    header = ["term", "value", "size", *(f"size in {band}" for band in bands), *(f"share in {band}" for band in bands)]
    rows = []
    for term in terms:
        sizes = (f"{size:.3f}" for size in (term.magnitude, *term.magnitude_at_contours))
        shares = (f"{100 * share:.1f}" for share in term.share)
        rows.append([term.name, f"{term.value:.4f}", *sizes, *shares, f"{term.cosine:+.2f}"])
    print("\n".join(markdown_table([*header, "cosine"], rows)))
    print("\nlabeled pixels: " + ", ".join(f"{100 * p:.1f}% in {band}" for band, p in zip(bands, pixels, strict=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
