#!/usr/bin/env python
"""Build VOC2012/SegmentationClassAug and its list train_aug (10,582 images) from PASCAL VOC 2012 and SBD.

python datasets/prepare_voc_aug.py --sbd benchmark_RELEASE/dataset
"""

import argparse
import os
import sys

from tqdm import tqdm

from epl_d2.commands import command
from epl_d2.data.datasets import dataset_root
from epl_d2.data.voc_aug import DOWNLOADS, TRAIN_AUG, check_list, train_aug_ids, write_train_aug


@command
def main() -> int:
    """Write the label maps and the list, or say what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=DOWNLOADS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default=dataset_root(), help="folder that holds VOC2012 (default: %(default)s)")
    parser.add_argument("--sbd", required=True, help="SBD's folder with cls/, train.txt and val.txt")
    parser.add_argument("--any-list", action="store_true", help="accept another number of images than 10,582")
    args = parser.parse_args()
    voc_root = os.path.join(args.root, "VOC2012")
    ids = train_aug_ids(voc_root, args.sbd)
    if not args.any_list:
        check_list("train_aug", ids, TRAIN_AUG)
    written = write_train_aug(voc_root, args.sbd, ids, progress=tqdm)
    print(f"{voc_root}/SegmentationClassAug: {written} label maps written, {len(ids) - written} were there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
