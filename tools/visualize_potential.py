#!/usr/bin/env python
"""Draw the potential fields of a class: one PNG sheet with every direction and its equipotential lines.

    # a generated scene; the README's picture is made by this line
    python tools/visualize_potential.py --shapes 3 --size 160 160 --class polygon --kernel-size 13 \\
        --output docs/images/potential_fields.png

    # a labeled image
    python tools/visualize_potential.py --image I.jpg --label L.png --dataset camvid --class car \\
        --output car.png

    # one of a data set of your own
    python tools/visualize_potential.py --image I.jpg --label L.png --dataset-file streets.yaml --output road.png

    # ground truth beside the prediction of a trained model, and where their line regions differ
    python tools/visualize_potential.py --image I.jpg --label L.png --class car \\
        --config-file configs/C.yaml --weights output/model_final.pth --output car.png

The fields are computed on the whole image at label size; the sheet shows the window with the most lines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from epl_d2.commands import command
from epl_d2.data.datasets.arguments import add_dataset_arguments
from epl_d2.data.datasets.description import read_description
from epl_d2.data.datasets.metadata import DATASETS, DatasetMetadata
from epl_d2.data.label_io import read_image
from epl_d2.data.shapes import render_scene
from epl_d2.losses.arguments import IGNORE_MODES
from epl_d2.losses.defaults import IGNORE_MODE
from epl_d2.visualization import write_png
from epl_d2.visualization.ground_truth import read_ground_truth
from epl_d2.visualization.potential import potential_sheet
from epl_d2.visualization.training import longest_contour

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@command
def main() -> int:
    args = parse_arguments()
    cfg = build_config(args) if args.config_file else None
    dataset, codes = find_dataset(args, cfg)
    image, labels, source = read_scene(args, dataset, codes)
    class_id = find_class(args.class_name, labels, dataset, source)
    kernel_size = args.kernel_size
    if kernel_size is None:
        kernel_size = cfg.MODEL.EPL.LINE.KERNEL_SIZE if cfg else 7
    sheet = potential_sheet(
        image,
        labels,
        class_id,
        kernel_size=kernel_size,
        splitter=args.splitter or (cfg.MODEL.EPL.SPLITTER if cfg else "A"),
        convolution=args.convolution or (cfg.MODEL.EPL.CONVOLUTION if cfg else "anisotropic"),
        padding=args.padding,
        ignore_mode=args.ignore_mode or (cfg.MODEL.EPL.IGNORE_MODE if cfg else IGNORE_MODE),
        palette=dataset.palette,
        classes=dataset.classes,
        probabilities=predict(args, cfg, image) if cfg else None,
        window=args.window,
        zoom_width=args.zoom_width,
        ignore_value=dataset.ignore_value,
    )
    write_png(args.output, sheet)
    print(f"{args.output}: potential fields of {dataset.classes[class_id]!r} in {source}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scene = parser.add_mutually_exclusive_group(required=True)
    scene.add_argument("--image", help="image file; needs --label")
    scene.add_argument("--shapes", type=int, metavar="SEED", help="draw a generated scene instead of an image")
    parser.add_argument("--label", help="label map of the image: one channel of class ids")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("H", "W"), help="of --shapes")
    add_dataset_arguments(parser, required=False)
    parser.add_argument("--class", dest="class_name", metavar="NAME|ID", help="default: that of the longest contour")
    parser.add_argument("--config-file", help="config of a trained model; needs --weights")
    parser.add_argument("--weights", help="its checkpoint")
    parser.add_argument("--kernel-size", type=int, help="odd; default: the config's for the line loss, or 7")
    parser.add_argument("--splitter", choices=("A", "B", "C"), help="default: the config's, or A")
    parser.add_argument(
        "--convolution", choices=("anisotropic", "standard"), help="default: the config's, or anisotropic"
    )
    parser.add_argument("--padding", choices=("replicate", "zero"), default="replicate")
    parser.add_argument(
        "--ignore-mode", choices=IGNORE_MODES, help=f"at ignored pixels; default: the config's, or {IGNORE_MODE}"
    )
    parser.add_argument("--window", type=int, nargs=4, metavar=("X", "Y", "W", "H"), help="part to show, in pixels")
    parser.add_argument("--zoom-width", type=int, default=96, help="width of the window chosen without --window")
    parser.add_argument("--output", required=True, help="PNG file to write")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="further config KEY VALUE pairs (last)")
    args = parser.parse_args()
    if bool(args.image) != bool(args.label):
        parser.error("--image and --label go together")
    if args.shapes is not None and (args.dataset or args.dataset_file):
        parser.error("--dataset and --dataset-file go with --image: the scenes of --shapes have classes of their own")
    if bool(args.config_file) != bool(args.weights):
        parser.error("--config-file and --weights go together")
    if args.image and not (args.dataset or args.dataset_file or args.config_file):
        parser.error("--image needs --dataset, --dataset-file or --config-file: whose class ids are in the label?")
    return args


def build_config(args: argparse.Namespace) -> CfgNode:
    import epl_d2.quiet_detectron2  # noqa: F401

    # isort: split
    from epl_d2.engine.config_check import require_pixel_labels
    from epl_d2.engine.setup import read_config

    cfg = read_config(args.config_file, args.opts, weights=args.weights)
    require_pixel_labels(cfg, "tools/visualize_mask_potential.py draws masks; drawn here is")
    return cfg


# The class id of every id that is stored in a label file, and of every color; None where a file needs no such thing.
Codes = tuple[bytes | None, Mapping[tuple[int, int, int], int] | None]


def find_dataset(args: argparse.Namespace, cfg: CfgNode | None) -> tuple[DatasetMetadata, Codes]:
    """Classes and codes: of --dataset or --dataset-file, of the config, or of the generated scenes."""
    codes: Codes = None, None
    if args.dataset:
        dataset = DATASETS[args.dataset]
    elif args.dataset_file:
        described = read_description(args.dataset_file)
        dataset, codes = described.metadata, (described.label_map, described.label_colors)
    elif cfg is None:
        dataset = DATASETS["shapes"]
    else:
        from detectron2.data import MetadataCatalog

        from epl_d2.data.class_names import names_and_colors

        dataset = DatasetMetadata(*names_and_colors(cfg), cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
        known = [MetadataCatalog.get(name) for name in cfg.DATASETS.TEST[:1]]
        codes = next(((data.get("label_map"), data.get("label_colors")) for data in known), codes)
    if cfg is not None and len(dataset.classes) != cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
        raise ValueError(
            f"{args.config_file}: MODEL.SEM_SEG_HEAD.NUM_CLASSES is {cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}, "
            f"but the data set has {len(dataset.classes)} classes"
        )
    return dataset, codes


def read_scene(args: argparse.Namespace, dataset: DatasetMetadata, codes: Codes) -> tuple[np.ndarray, np.ndarray, str]:
    """Image [H, W, 3], label map [H, W], and how to call them."""
    if args.shapes is not None:
        return *render_scene(args.shapes, tuple(args.size)), f"scene {args.shapes}"
    image, labels = read_image(args.image), read_ground_truth(args.label, dataset, *codes)
    if image.shape[:2] != labels.shape:
        raise ValueError(
            f"{args.image} is {image.shape[1]} x {image.shape[0]} pixels, "
            f"but {args.label} is {labels.shape[1]} x {labels.shape[0]}"
        )
    return image, labels, args.label


def find_class(name: str | None, labels: np.ndarray, dataset: DatasetMetadata, source: str) -> int:
    """The id of a class given by name or number; by default that of the longest contour in `labels`."""
    count = len(dataset.classes)
    if name is None:
        return longest_contour(labels, count, dataset.ignore_value)
    if name in dataset.classes:
        class_id = dataset.classes.index(name)
    elif name.isdecimal() and int(name) < count:
        class_id = int(name)
    else:
        raise ValueError(f"unknown class {name!r}; expected 0..{count - 1} or one of {', '.join(dataset.classes)}")
    present = [dataset.classes[i] for i in np.unique(labels[labels != dataset.ignore_value])]
    if dataset.classes[class_id] not in present:
        raise ValueError(f"{source} has no {dataset.classes[class_id]!r}; it has {', '.join(present) or 'no class'}")
    return class_id


def predict(args: argparse.Namespace, cfg: CfgNode, image: np.ndarray) -> np.ndarray:
    """Probabilities [K, H, W] of the model for an RGB image, by the test-time protocol of its config."""
    from epl_d2 import Predictor

    predictor = Predictor.from_config(args.config_file, args.weights, args.opts, cfg.MODEL.DEVICE)
    return predictor(image).probabilities.float().cpu().numpy()


if __name__ == "__main__":
    sys.exit(main())
