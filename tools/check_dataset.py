#!/usr/bin/env python
"""Read every file of a registered data set and say what is wrong: python tools/check_dataset.py NAME

Looks for unreadable files, sizes that differ, unknown label ids and empty labels; prints class frequencies.
The exit code is 1 if an image cannot be used. Images that other splits of --dataset-file hold as well get a warning.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from multiprocessing.pool import ThreadPool

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import cv2
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from epl_d2 import register
from epl_d2.commands import command
from epl_d2.data.dataset_check import require_label_maps, shared_images
from epl_d2.data.datasets import register_from_yaml
from epl_d2.data.datasets.arguments import DATASET_FILE_HELP
from epl_d2.data.label_check import describe, inspect_record, summarize
from epl_d2.files import usable_cores


@command
def main() -> int:
    """Check one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="registered data set, e.g. camvid_sem_seg_train")
    parser.add_argument("--dataset-file", default="", metavar="FILE", help=DATASET_FILE_HELP)
    parser.add_argument("--workers", type=int, default=usable_cores(), help="threads (default: %(default)s)")
    parser.add_argument("--max-errors", type=int, default=20, help="errors to print (default: %(default)s)")
    args = parser.parse_args()
    register()
    splits = register_from_yaml(args.dataset_file) if args.dataset_file else []
    require_label_maps(args.name)
    records = DatasetCatalog.get(args.name)

    metadata = MetadataCatalog.get(args.name)
    inspect = partial(inspect_record, num_classes=len(metadata.stuff_classes), ignore_value=metadata.ignore_label)
    workers = max(1, min(args.workers, len(records)))
    cv2.setNumThreads(1)
    # Decoding and array work release the interpreter lock, so threads run in parallel.
    with ThreadPool(workers) as pool:
        reports = tqdm(pool.imap(inspect, records), total=len(records), unit="image")
        summary = summarize(reports, len(metadata.stuff_classes))
    if summary.images > len(summary.errors) and not summary.pixels[:-1].any():
        summary.errors.append(f"{args.name}: nothing is labeled, every pixel is ignored")
    print(describe(summary, metadata.stuff_classes))
    for error in summary.errors[: args.max_errors]:
        print(f"error: {error}", file=sys.stderr)
    if len(summary.errors) > args.max_errors:
        print(f"... and {len(summary.errors) - args.max_errors} more", file=sys.stderr)
    for sentence in shared_images(args.name, [name for name in splits if args.name in splits and name != args.name]):
        print(f"warning: {sentence}", file=sys.stderr)
    print(f"{args.name}: {len(summary.errors)} errors")
    return 1 if summary.errors else 0


if __name__ == "__main__":
    sys.exit(main())
