#!/usr/bin/env python
"""Draw a contact sheet of a data set before and after augmentation: python tools/visualize_data.py NAME

Each row is an image of the data set: the image, its labels (class colors and contours over it, ignored
pixels hatched), and the same after the training augmentations of the config.
"""

from __future__ import annotations

import argparse
import os
import sys

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2 import get_cfg
from epl_d2.commands import command
from epl_d2.data.dataset_check import require_label_maps
from epl_d2.data.dataset_mapper import SemSegDatasetMapper
from epl_d2.data.datasets import register_from_config, register_from_yaml
from epl_d2.data.datasets.arguments import DATASET_FILE_HELP
from epl_d2.data.label_io import read_image, read_record_label
from epl_d2.data.sampling import seeded
from epl_d2.visualization import draw_contours, legend, overlay, write_png
from epl_d2.visualization.draw import IGNORED_COLOR
from epl_d2.visualization.sheet import Panel, grid, page, panel_scale, scaled

CONTOUR_COLOR = (255, 255, 255)


def label_picture(
    image: np.ndarray, label: np.ndarray, palette: list[tuple[int, int, int]], ignore: int, factor: float
) -> np.ndarray:
    """Class colors and contours over the image, ignored pixels hatched; all resized by `factor`."""
    image = scaled(image, factor)
    label = cv2.resize(label.astype(np.int32), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    tinted = overlay(image, label, palette, ignore_value=ignore)
    picture = draw_contours(tinted, label, CONTOUR_COLOR, 1, ignore)
    rows, columns = np.indices(label.shape)
    picture[(label == ignore) & ((rows + columns) // 3 % 2 == 0)] = IGNORED_COLOR
    return picture


def contact_sheet(name: str, mapper: SemSegDatasetMapper, images: int, augmented: int, seed: int = 0) -> np.ndarray:
    """The sheet of one data set, RGB.

    Args:
        name: registered data set.
        mapper: for training, in RGB.
        images: number of rows; the images are spread over the data set.
        augmented: number of augmented versions of each image.
        seed: of the augmentations.
    """
    records, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
    palette, ignore = metadata.stuff_colors, metadata.ignore_label
    rows: list[list[Panel]] = []
    labels: list[np.ndarray] = []
    for number, index in enumerate(np.linspace(0, len(records) - 1, min(images, len(records))).astype(int)):
        record = records[index]
        pairs = [(str(record["image_id"]), read_image(record["file_name"]), read_record_label(record))]
        for version in range(augmented):
            with seeded(seed, number, version):
                sample = mapper(record)
            image = np.ascontiguousarray(sample["image"].numpy().transpose(1, 2, 0))
            pairs.append((f"augmented {version + 1}", image, sample["sem_seg"].numpy()))
        rows.append([])
        for title, image, label in pairs:
            factor = panel_scale(image.shape)
            picture = label_picture(image, label, palette, ignore, factor)
            rows[-1] += [Panel(title, scaled(image, factor)), Panel("labels", picture)]
            labels.append(label)
    body = grid(rows)
    names = legend(metadata.stuff_classes, palette, *labels, width=body.shape[1], ignore_value=ignore)
    return page([body, names], f"{name}: images, labels and {augmented} augmented versions")


def build_mapper(name: str, config_file: str, crop: list[int] | None) -> SemSegDatasetMapper:
    """The training mapper of a config, or with the paper's augmentations; RGB, with the classes of `name`."""
    cfg = get_cfg()
    cfg.INPUT.CROP.ENABLED = True
    if config_file:
        cfg.merge_from_file(config_file)
        register_from_config(cfg)
    require_label_maps(name)
    metadata = MetadataCatalog.get(name)
    if cfg.INPUT.FORMAT == "BGR":
        cfg.INPUT.FORMAT = "RGB"
        cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_MEAN[::-1]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(metadata.stuff_classes)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = metadata.ignore_label
    if crop:
        cfg.INPUT.CROP.SIZE = crop
    return SemSegDatasetMapper(cfg, True)


@command
def main() -> int:
    """Write one sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="registered data set, e.g. camvid_sem_seg_train")
    parser.add_argument("--config-file", default="", help="whose INPUT keys to use (default: the paper's)")
    parser.add_argument("--dataset-file", default="", metavar="FILE", help=DATASET_FILE_HELP)
    parser.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"), help="in place of INPUT.CROP.SIZE")
    parser.add_argument("--images", type=int, default=4, help="rows, spread over the data set")
    parser.add_argument("--augmented", type=int, default=2, help="augmented versions of each image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="output/data", help="folder of the sheet (default: %(default)s)")
    args = parser.parse_args()
    if args.images < 1:
        parser.error(f"--images is {args.images}, expected at least 1")
    if args.augmented < 0:
        parser.error(f"--augmented is {args.augmented}, expected at least 0")
    if args.dataset_file:
        register_from_yaml(args.dataset_file)
    mapper = build_mapper(args.name, args.config_file, args.crop)
    sheet = contact_sheet(args.name, mapper, args.images, args.augmented, args.seed)
    path = os.path.join(args.output, f"{args.name}.png")
    write_png(path, sheet)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
