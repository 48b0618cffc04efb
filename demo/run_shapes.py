#!/usr/bin/env python
"""Train a small model with EPL on the generated shapes scenes, evaluate it, and show the result: what `make demo` runs.

python datasets/prepare_shapes.py
python demo/run_shapes.py --output output/shapes_demo
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
from tabulate import tabulate

from epl_d2.commands import add_overrides, command
from epl_d2.data.datasets import dataset_root
from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.data.datasets.shapes import load_shapes
from epl_d2.data.label_io import read_image, read_record_label
from epl_d2.visualization import prediction_sheet, write_png

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2_epl.yaml"
WIDTHS = (1, 3, 5, 9)


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="output/shapes_demo", help="folder of checkpoint, scores and pictures")
    parser.add_argument("--pictures", type=int, default=6, help="number of validation scenes to draw")
    add_overrides(parser)
    args = parser.parse_args()

    command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", str(CONFIG)]
    options = ["OUTPUT_DIR", args.output, "TEST.SAVE_PREDICTIONS", "True", *args.opts]
    finished = subprocess.run([*command, *options], check=False)
    if finished.returncode:
        return finished.returncode

    inference = Path(args.output) / "inference"
    pictures = Path(args.output) / "pictures"
    draw_pictures(inference / "predictions", pictures, args.pictures)
    scores = json.loads((inference / "boundary_curves.json").read_text())
    print(f"\nDeepLabV3+ MobileNetV2 with EPL on {scores['images']} shapes scenes, percent\n")
    print(score_table(scores))
    again = ["python", "demo/run_shapes.py", "--output", f"{args.output}_cross_entropy", *args.opts]
    print(
        "\nLook at F, the share of a class's contours that agree to so many pixels, and at the thinnest class, rod:\n"
        "that is where EPL differs from cross entropy alone, which the same minutes show with\n\n"
        f"    {shlex.join(again)} MODEL.EPL.ENABLED False"
    )
    print(f"\npictures (scene, label, prediction, contours): {pictures}{os.sep}")
    print(f"scores at 20 widths, curves, predictions:      {inference}{os.sep}")
    return 0


def score_table(scores: dict) -> str:
    """IoU, boundary F at WIDTHS pixels and trimap IoU at 3 pixels, of every class and their means."""
    columns = [scores["widths"].index(width) for width in WIDTHS]
    near = scores["widths"].index(3)
    header = ["class", "IoU", *(f"F@{width}px" for width in WIDTHS), "trimap@3px"]
    classes = scores["per_class"]
    rows = [
        [name, scores["IoU"][k], *(classes["BF"][k][column] for column in columns), classes["Trimap-IoU"][k][near]]
        for k, name in enumerate(scores["classes"])
    ]
    means = [scores["mIoU"], *(scores["BF"][column] for column in columns), scores["Trimap-mIoU"][near]]
    return tabulate([*rows, ["mean", *means]], header, tablefmt="github", floatfmt=".2f", missingval="-")


def draw_pictures(predictions: Path, pictures: Path, count: int) -> None:
    """One sheet for each of the first `count` validation scenes: image, label, prediction, contours."""
    shapes = DATASETS["shapes"]
    pictures.mkdir(parents=True, exist_ok=True)
    for record in load_shapes(os.path.join(dataset_root(), "shapes"), "val")[:count]:
        name = Path(record["file_name"]).stem
        prediction = read_record_label({"sem_seg_file_name": str(predictions / f"{name}.png")})
        sheet = prediction_sheet(
            read_image(record["file_name"], "RGB"),
            read_record_label(record),
            prediction,
            shapes.palette,
            shapes.classes,
        )
        write_png(pictures / f"{name}.png", sheet)


if __name__ == "__main__":
    sys.exit(main())
