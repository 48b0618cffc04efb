#!/usr/bin/env python
"""What ignored pixels do to the losses and to boundary scores on the labels of a data set. Prints Markdown tables.

    python tools/analyze_ignored.py contours $DETECTRON2_DATASETS/VOC2012/SegmentationClass --dataset voc_2012
    python tools/analyze_ignored.py shift $DETECTRON2_DATASETS/VOC2012/SegmentationClass --dataset voc_2012
    python tools/analyze_ignored.py lines $DETECTRON2_DATASETS/VOC2012/SegmentationClass --dataset voc_2012

`contours`: how many contour pixels count with each ignore mode. `shift`: scores of a copy of the labels that is moved
to the right; its ignored pixels are filled first, as a prediction has none. `lines`: how many of the line pixels that
the losses see stand at a contour of the labels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from epl_d2.analysis.ignored import contour_pixels, shift_scores
from epl_d2.commands import command
from epl_d2.data.datasets.arguments import add_dataset_arguments
from epl_d2.data.datasets.description import read_description
from epl_d2.data.datasets.metadata import DATASETS, DatasetMetadata
from epl_d2.evaluation.prediction_folders import find_own_files, find_targets
from epl_d2.experiments.results import markdown_table
from epl_d2.visualization.ground_truth import read_ground_truth


@command
def main() -> int:
    args = parse_arguments()
    print("\n".join(args.analyze(args)))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("labels", type=Path, metavar="FOLDER", help="label files, anywhere below it")
    add_dataset_arguments(common)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    contours = commands.add_parser("contours", parents=[common], help="contour pixels with each ignore mode")
    contours.add_argument(
        "--distances", type=int, nargs="+", default=[1, 2, 3, 5, 8, 16], help="of nearest (default: 1 2 3 5 8 16)"
    )
    contours.set_defaults(analyze=analyze_contours)
    shift = commands.add_parser("shift", parents=[common], help="scores of labels that are moved")
    shift.add_argument("--shifts", type=int, nargs="+", default=[1, 2, 4, 8], help="in pixels (default: 1 2 4 8)")
    shift.set_defaults(analyze=analyze_shift)
    lines = commands.add_parser("lines", parents=[common], help="line pixels of the losses")
    lines.add_argument("--kernel-sizes", type=int, nargs="+", default=[7, 11, 13], help="odd (default: 7 11 13)")
    lines.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth file (default: all)")
    lines.set_defaults(analyze=analyze_lines)
    args = parser.parse_args()
    if min(getattr(args, "shifts", [0])) < 0:
        parser.error(f"--shifts are {args.shifts}, expected at least 0")
    return args


def whose(args: argparse.Namespace) -> tuple[DatasetMetadata, bytes | None, Mapping | None]:
    """Classes, and what the stored ids and colors mean where that is not known."""
    if not args.dataset_file:
        return DATASETS[args.dataset], None, None
    described = read_description(args.dataset_file)
    return described.metadata, described.label_map, described.label_colors


def read_labels(args: argparse.Namespace, every: int = 1) -> Iterator[np.ndarray]:
    dataset, *codes = whose(args)
    if args.dataset_file:
        files = list(find_own_files(args.labels, read_description(args.dataset_file).endings[1]).values())
    else:
        files = [file for file, _ in find_targets(args.labels, args.dataset == "cityscapes").values()]
    for file in tqdm(files[::every], unit="file", disable=None):
        yield read_ground_truth(file, dataset, *codes)


def analyze_contours(args: argparse.Namespace) -> list[str]:
    dataset, *_ = whose(args)
    found = contour_pixels(read_labels(args), len(dataset.classes), args.distances, dataset.ignore_value)
    both = found.counted + found.hidden
    header = ["images", "ignored pixels", "ignore", "zero", "edges of ignored areas in zero"]
    header += [f"nearest, {distance} px" for distance in args.distances]
    row = [f"{found.images}", f"{found.ignored:.1%}", f"{found.counted:,}", f"{both:,}"]
    row += [f"{found.hidden / max(both, 1):.1%}", *(f"{pixels:,}" for pixels in found.filled)]
    return ["contour pixels of all classes", "", *markdown_table(header, [row])]


def analyze_shift(args: argparse.Namespace) -> list[str]:
    dataset, *_ = whose(args)
    header = ["mode", "shift", "contour pixels", "classes", "BF@1px", "BF@3px", "Boundary-IoU@3px"]
    header += ["Trimap-mIoU@3px, label-change", "void"]
    rows = []
    for row in shift_scores(read_labels(args), len(dataset.classes), args.shifts, dataset.ignore_value):
        scores = (*row.boundary_f, row.boundary_iou, *row.trimap)
        counts = f"{row.contour_pixels:,}", str(row.classes)
        rows.append(
            [row.ignore_mode, str(row.shift), *counts, *("-" if np.isnan(s) else f"{100 * s:.1f}" for s in scores)]
        )
    return ["scores in percent", "", *markdown_table(header, rows)]


def analyze_lines(args: argparse.Namespace) -> list[str]:
    import torch  # the other commands do without it

    from epl_d2.analysis.line_pixels import LinePixels, count_line_pixels
    from epl_d2.losses.arguments import IGNORE_MODES

    if args.every < 1:
        raise ValueError(f"--every is {args.every}, expected at least 1")
    found = {(size, mode): LinePixels() for size in args.kernel_sizes for mode in IGNORE_MODES}
    ignore_value = whose(args)[0].ignore_value
    for labels in read_labels(args, args.every):
        for size, mode in found:
            counts = count_line_pixels(torch.from_numpy(labels), size, ignore_value=ignore_value, ignore_mode=mode)
            found[size, mode] += counts
    header = ["kernel", "mode", "line pixels", "rays that meet one class", "false"]
    rows = [
        [str(size), mode, f"{n.lines:,}", *(f"{share / max(n.lines, 1):.1%}" for share in (n.own_class, n.false))]
        for (size, mode), n in found.items()
    ]
    return markdown_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
