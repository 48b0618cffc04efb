#!/usr/bin/env python
"""Class weights `share of the training pixels ** -power`, scaled so that their mean over those pixels is 1.

    python tools/find_class_weights.py --config-file configs/CamVid/deeplab_v3_plus_mobilenet_v2_os16.yaml

prints what MODEL.EXTRA_LOSSES.CLASS_WEIGHTED_CROSS_ENTROPY.CLASS_WEIGHTS takes, from the labels of DATASETS.TRAIN.
"""

from __future__ import annotations

import argparse
import sys

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
from epl_d2.commands import command
from epl_d2.data.class_pixels import class_pixels, class_weights
from epl_d2.engine import check_datasets, read_config


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE")
    add(
        "--power",
        type=float,
        default=0.5,
        help="0 weights all pixels alike, 1 gives every class the same total weight (default: %(default)s)",
    )
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...; comes last")
    args = parser.parse_args()
    cfg = read_config(args.config_file, args.opts)
    check_datasets(cfg, training=True)
    head = cfg.MODEL.SEM_SEG_HEAD
    pixels = class_pixels(tuple(cfg.DATASETS.TRAIN), head.NUM_CLASSES, head.IGNORE_VALUE)
    weights = class_weights(pixels, args.power)
    print(f"[{', '.join(f'{weight:.4g}' for weight in weights)}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
