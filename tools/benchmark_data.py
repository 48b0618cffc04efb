#!/usr/bin/env python
"""Time the input pipeline against Detectron2's own: python tools/benchmark_data.py NAME --crop 512 512

Both read the same images in the same run, on one core: ours with the paper's augmentations, Detectron2's
DatasetMapper with ResizeScale, RandomCrop and RandomFlip. Every figure is the mean over images of the median
over repetitions, in which both take turns, so that other work on the machine disturbs them alike.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from tabulate import tabulate
from tqdm import tqdm

from epl_d2 import get_cfg, register
from epl_d2.commands import command
from epl_d2.data.augmentation_recipe import build_train_augmentations
from epl_d2.data.dataset_check import require_label_maps
from epl_d2.data.dataset_mapper import SemSegDatasetMapper
from epl_d2.data.datasets import register_from_yaml
from epl_d2.data.label_io import read_image, read_record_label

PARTS = ("read image", "read label", "augment")
Step = Callable[[dict[str, Any]], Any]


def measure(steps: dict[str, Step], records: list[dict[str, Any]], repetitions: int) -> dict[str, float]:
    """Milliseconds an image of every step; the steps take turns on each image."""
    spent = np.zeros((len(steps), len(records), repetitions))
    for repetition in tqdm(range(repetitions), unit="repetition", disable=None):
        for number, record in enumerate(records):
            for row, step in enumerate(steps.values()):
                np.random.seed((repetition, number))
                start = time.perf_counter()
                step(record)
                spent[row, number, repetition] = time.perf_counter() - start
    milliseconds = 1e3 * np.median(spent, axis=2).mean(axis=1)
    return dict(zip(steps, milliseconds.tolist(), strict=True))


def build_steps(name: str, crop: tuple[int, int], records: list[dict[str, Any]]) -> dict[str, Step]:
    """The two mappers as a whole, and the parts of each."""
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(MetadataCatalog.get(name).stuff_classes)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.SIZE = list(crop)
    height, width = read_image(records[0]["file_name"]).shape[:2]
    stock_augmentations = [
        T.ResizeScale(0.5, 2.0, height, width),
        T.RandomCrop("absolute", crop),
        T.RandomFlip(),
    ]
    stock = DatasetMapper(is_train=True, augmentations=stock_augmentations, image_format="RGB")
    our_list = T.AugmentationList(build_train_augmentations(cfg))
    stock_list = T.AugmentationList(stock_augmentations)
    # decoded once, so that the augmentations can be timed alone
    decoded = {r["file_name"]: (read_image(r["file_name"]), read_record_label(r).astype(np.uint8)) for r in records}

    def augment(augmentations: T.AugmentationList) -> Step:
        def step(record: dict[str, Any]) -> None:
            image, label = decoded[record["file_name"]]
            augmentations(T.AugInput(image, sem_seg=label))

        return step

    return {
        "ours": SemSegDatasetMapper(cfg, True),
        "stock": stock,
        "ours: read image": lambda record: read_image(record["file_name"]),
        "stock: read image": lambda record: utils.read_image(record["file_name"], "RGB"),
        "ours: read label": read_record_label,
        "stock: read label": lambda record: utils.read_image(record["sem_seg_file_name"], "L"),
        "ours: augment": augment(our_list),
        "stock: augment": augment(stock_list),
    }


@command
def main() -> int:
    """Print the table; exit code 1 if ours is slower than --max-ratio times Detectron2's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="registered data set, e.g. cityscapes_fine_sem_seg_train")
    parser.add_argument("--crop", type=int, nargs=2, default=(512, 512), metavar=("H", "W"))
    parser.add_argument("--images", type=int, default=8, help="images to read (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--max-ratio", type=float, default=1.2, help="accepted ours / stock (default: %(default)s)")
    parser.add_argument("--dataset-file", default="", help="YAML file that describes the data set")
    args = parser.parse_args()
    register()
    if args.dataset_file:
        register_from_yaml(args.dataset_file)
    require_label_maps(args.name)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    records = DatasetCatalog.get(args.name)[: args.images]
    spent = measure(build_steps(args.name, tuple(args.crop), records), records, args.repetitions)
    print(f"{args.name}, crop {args.crop[0]} x {args.crop[1]}, {len(records)} images, one core")
    rows = []
    for mapper in ("ours", "stock"):
        total = spent[mapper]
        parts = [spent[f"{mapper}: {part}"] for part in PARTS]
        parts.append(max(0.0, total - sum(parts)))
        rows.append([mapper, 1e3 / total, total, *(f"{part:.1f} ({100 * part / total:.0f} %)" for part in parts)])
    header = ("mapper", "images/s", "ms", *(f"{part}, ms" for part in (*PARTS, "rest")))
    print(tabulate(rows, header, floatfmt=".1f", colalign=("left", *["right"] * (len(header) - 1))))
    ratio = spent["ours"] / spent["stock"]
    print(f"ours / stock: {ratio:.2f} (accepted: {args.max_ratio})")
    return 0 if ratio <= args.max_ratio else 1


if __name__ == "__main__":
    sys.exit(main())
