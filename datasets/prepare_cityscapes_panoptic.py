#!/usr/bin/env python
"""Write instances and panoptic segments of Cityscapes in COCO's formats, from gtFine/*/*/*_instanceIds.png.

python datasets/prepare_cityscapes_panoptic.py [--root datasets]
"""

import argparse
import os
import sys
from functools import partial

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
from tqdm import tqdm

from epl_d2.commands import command
from epl_d2.data.cityscapes_annotations import write_cityscapes_annotations
from epl_d2.data.datasets import dataset_root
from epl_d2.data.datasets.cityscapes import INSTANCE_FOLDER


@command
def main() -> int:
    """Write DETECTRON2_DATASETS/cityscapes/gtFine_coco, or find it complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=dataset_root(), help="folder that holds all data sets (default: %(default)s)")
    args = parser.parse_args()
    folder = os.path.join(args.root, "cityscapes")
    written = write_cityscapes_annotations(folder, progress=partial(tqdm, unit="frame", disable=None))
    print(f"{os.path.join(folder, INSTANCE_FOLDER)}: {'written' if written else 'already there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
