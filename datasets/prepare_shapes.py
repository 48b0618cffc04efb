#!/usr/bin/env python
"""Generate the shapes data set and its instance and panoptic annotations.

python datasets/prepare_shapes.py [--root datasets]
"""

import argparse
import os
import sys
from functools import partial

from tqdm import tqdm

from epl_d2.commands import command
from epl_d2.data.datasets import dataset_root
from epl_d2.data.shape_annotations import write_shape_annotations
from epl_d2.data.shapes import MIN_SIDE, write_shapes


@command
def main() -> int:
    """Write DETECTRON2_DATASETS/shapes, or what it lacks, or find it complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=dataset_root(), help="folder that holds all data sets (default: %(default)s)")
    parser.add_argument("--train", type=int, default=160, help="training scenes (default: %(default)s)")
    parser.add_argument("--val", type=int, default=40, help="validation scenes (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("H", "W"), help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, least in (("train", 1), ("val", 1), ("seed", 0)):
        if getattr(args, name) < least:
            parser.error(f"--{name} is {getattr(args, name)}, expected at least {least}")
    if min(args.size) < MIN_SIDE:
        parser.error(f"--size is {args.size[0]} {args.size[1]}, expected at least {MIN_SIDE} {MIN_SIDE}")
    folder = os.path.join(args.root, "shapes")
    settings = {"train": args.train, "val": args.val, "size": tuple(args.size), "seed": args.seed}
    written = write_shapes(folder, **settings, progress=partial(tqdm, unit="scene", disable=None))
    written |= write_shape_annotations(os.path.join(folder, "annotations"), **settings)
    print(f"{folder}: {'written' if written else 'already there'}, {args.train} train and {args.val} val scenes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
