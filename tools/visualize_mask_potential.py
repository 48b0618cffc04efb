#!/usr/bin/env python
"""Potential fields of one instance's mask, label beside prediction, at the size at which the mask head is trained.

    python tools/visualize_mask_potential.py --config-file configs/shapes/mask_rcnn_R_18_FPN_epl.yaml \\
        --weights output/shapes/mask_rcnn_R_18_FPN_epl/model_final.pth --picture 3 --output mask.png

The prediction is that of the true class in the true box.
"""

from __future__ import annotations

import argparse
import sys

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import numpy as np

from epl_d2.checkpoint.loading import load_weights
from epl_d2.commands import add_overrides, command
from epl_d2.engine import Trainer, read_config
from epl_d2.inference.mask_fields import mask_field
from epl_d2.visualization import write_png
from epl_d2.visualization.potential import potential_sheet

OUTSIDE = (236, 236, 236)


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--weights", help="checkpoint of the trained model; default: the config's MODEL.WEIGHTS")
    parser.add_argument("--picture", type=int, default=0, metavar="N", help="of DATASETS.TEST (default: %(default)s)")
    parser.add_argument("--instance", type=int, metavar="N", help="of the picture; default: the largest")
    parser.add_argument("--output", required=True, metavar="FILE", help="PNG file to write")
    add_overrides(parser)
    args = parser.parse_args()
    cfg = read_config(args.config_file, args.opts, weights=args.weights)
    cfg.freeze()
    model = Trainer.build_model(cfg)
    load_weights(model, cfg.MODEL.WEIGHTS)
    found = mask_field(cfg, model, args.picture, args.instance)
    side = len(found.target)
    sheet = potential_sheet(
        found.image,
        found.target.astype(np.uint8),
        1,
        kernel_size=cfg.MODEL.EPL.MASK.LINE.KERNEL_SIZE,
        splitter=cfg.MODEL.EPL.SPLITTER,
        convolution=cfg.MODEL.EPL.CONVOLUTION,
        palette=[OUTSIDE, found.color],
        classes=["outside", found.name],
        probabilities=np.stack([1 - found.probability, found.probability]),
        window=(0, 0, side, side),
    )
    write_png(args.output, sheet)
    print(f"{args.output}: potential fields of the mask of {found.name!r}, {found.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
