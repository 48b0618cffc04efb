#!/usr/bin/env python
"""Write a trained model as a file that runs without this package: TorchScript, ONNX or a torch.export program.

python tools/export_model.py --config-file configs/CamVid/deeplab_v3_plus_mobilenet_v2_os16_epl.yaml \\
    --format onnx --output model.onnx MODEL.WEIGHTS output/model_final.pth

The file takes a picture, RGB [1, 3, H, W] in 0..255, and gives logits [1, K, H, W] or labels [1, H, W] (with --batch
any number of pictures of one size); normalization is inside, the names of the classes are its metadata. It is compared
with the model on random pictures of two sizes, and not left behind if it differs. TorchScript and ONNX files take any
height and width, a torch.export program those that the tool prints, such as 17 pixels and more.
docs/export.md lists which models can be written in which format.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import torch
from detectron2.config import CfgNode

from epl_d2.checkpoint.loading import load_weights
from epl_d2.commands import add_overrides, command
from epl_d2.data.class_names import names_and_colors
from epl_d2.data.datasets.arguments import DATASET_FILE_HELP
from epl_d2.engine import Trainer, read_config, require_pixel_labels
from epl_d2.export import FORMATS, OUTPUTS, ExportError, ParityError, export_model, side_limits

DTYPES = {"uint8": torch.uint8, "float32": torch.float32}


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--output", required=True, metavar="FILE", help="file to write")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--result", choices=OUTPUTS, default="logits", help="what the file gives (default: logits)")
    parser.add_argument("--input", choices=DTYPES, default="uint8", help="type of its input (default: uint8)")
    parser.add_argument(
        "--sizes",
        nargs=4,
        type=int,
        metavar=("H1", "W1", "H2", "W2"),
        help="sizes of the random pictures of the check (default: INPUT.CROP.SIZE, and a higher and narrower one); a "
        "torch.export program is recorded at the first and takes those like it",
    )
    parser.add_argument("--fixed-size", action="store_true", help="the file takes pictures of H1 x W1 only")
    parser.add_argument("--batch", action="store_true", help="the file takes any number of pictures of a size")
    parser.add_argument("--dataset-file", metavar="FILE", help=f"{DATASET_FILE_HELP}: names that the config lacks")
    parser.add_argument("--random-weights", action="store_true", help="do not load MODEL.WEIGHTS, to try a format")
    add_overrides(parser)
    args = parser.parse_args()
    if args.sizes and min(args.sizes) < 1:
        parser.error(f"--sizes are {args.sizes}, expected positive numbers")

    cfg = read_config(args.config_file, [*args.opts, "MODEL.DEVICE", "cpu"], args.dataset_file)
    cfg.freeze()
    require_pixel_labels(cfg, "exported is")
    height, width = cfg.INPUT.CROP.SIZE
    numbers = args.sizes or (height, width, 5 * height // 4 + 1, 3 * width // 4 + 1)
    model = Trainer.build_model(cfg).eval()
    try:
        if not args.random_weights:
            load_weights(model, cfg.MODEL.WEIGHTS)
        difference = export_model(
            model,
            args.output,
            format=args.format,
            sizes=[tuple(numbers[:2]), tuple(numbers[2:])],
            input_format=cfg.INPUT.FORMAT,
            output=args.result,
            dtype=DTYPES[args.input],
            fixed_size=args.fixed_size,
            batch=args.batch,
            metadata=describe(cfg),
        )
    except (ExportError, ParityError) as error:
        if args.fixed_size:
            raise
        raise type(error)(f"{error}\nA file for one size of picture may be possible: --fixed-size") from error
    number = "any number of " if args.batch else ""
    taken = f"{number}{pictures(args, numbers)}"
    print(f"{args.output}: {args.result} of {taken}; differs from the model by at most {difference:.1e}")
    for line in left_out(cfg):
        print(f"not in the file: {line}")
    return 0


def pictures(args: argparse.Namespace, numbers: Sequence[int]) -> str:
    """Which pictures the file takes."""
    if args.fixed_size:
        return f"pictures of {numbers[0]} x {numbers[1]} pixels"
    if args.format == "torch_export":
        return "pictures with a height {} and a width {}".format(*side_limits(args.output))
    return "pictures of any size"


def describe(cfg: CfgNode) -> dict[str, Any]:
    """What a user of the file alone needs to know."""
    classes, palette = names_and_colors(cfg)
    return {
        "classes": classes,
        "palette": palette,
        "input": "RGB, 0..255, [N, 3, H, W]",
        "short_side": cfg.INPUT.MIN_SIZE_TEST,  # to which the config resizes pictures first; 0: not at all
        "long_side": cfg.INPUT.MAX_SIZE_TEST,  # at most
    }


def left_out(cfg: CfgNode) -> list[str]:
    """What the config does to a picture beside the model, and the file does not."""
    lines = []
    if cfg.INPUT.MIN_SIZE_TEST:
        lines.append(
            f"the config resizes pictures to a short side of {cfg.INPUT.MIN_SIZE_TEST} pixels, the long one at most "
            f"{cfg.INPUT.MAX_SIZE_TEST} (INPUT.MIN_SIZE_TEST, MAX_SIZE_TEST): do so before you call the file, or its "
            "results are others than those of the demo and of the evaluation"
        )
    for key, what in (("AUG", "averages over scales and flips"), ("WINDOW", "slides a window over the picture")):
        if cfg.TEST[key].ENABLED:
            lines.append(f"the config {what} (TEST.{key}.ENABLED)")
    return lines


if __name__ == "__main__":
    sys.exit(main())
