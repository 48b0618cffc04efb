#!/usr/bin/env python3
"""Tables of methods and seeds from the counts of single images alone: means, paired differences with intervals.

    python tools/compare_counts.py output/grids/example --dataset camvid_sem_seg_test --baseline base --block 20
    python tools/compare_counts.py RUNS --dataset NAME --block 20
    python tools/compare_counts.py RUNS --dataset NAME --baseline A --controls B --widths 1 3 --store docs/evidence/RUNS

RUNS is a folder of METHOD/seed_N, as a grid makes it, or as `train_net.py --eval-only ... TEST.SAVE_IMAGE_COUNTS True
OUTPUT_DIR RUNS/METHOD/seed_N` does, or as --store wrote it: the counts at --widths alone, in METHOD/seed_N/NAME.npz.
Without --baseline the table has every run by itself, with intervals over images or blocks of frames.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from epl_d2.commands import command
from epl_d2.evaluation.curves import PANELS, draw_class_gains, draw_gains
from epl_d2.experiments.comparison import (
    REPLICATES,
    Runs,
    class_gains,
    difference_rows,
    find_runs,
    folder_of_unit,
    gain_curves,
    mean_row,
    pool_starts,
    run_rows,
)
from epl_d2.experiments.results import markdown_table
from epl_d2.experiments.scores import contour_metrics, headline_metrics
from epl_d2.files import write_whole


def run(options: argparse.Namespace) -> None:
    # The files there, which the tables are made of, may hold more widths than those to keep.
    if options.store is not None and options.store.resolve() == options.runs.resolve():
        raise ValueError(f"--store is {options.store}, the folder of the runs themselves; choose another folder")
    runs = find_runs(options.runs, options.dataset)
    if options.pool_starts:
        runs = pool_starts(runs)
    for option in (options.baseline, *options.controls, *options.methods):
        if option is not None and option not in runs:
            raise ValueError(f"{options.runs} has no runs of {option!r}; it has {', '.join(runs)}")
    chosen = {name: runs[name] for name in options.methods or runs}
    metrics = (contour_metrics if options.contours else headline_metrics)(options.widths)
    known = set.intersection(*({*counts.widths} for by_seed in runs.values() for counts in by_seed.values()))
    if missing := sorted({*options.widths} - known):
        raise ValueError(f"not all of these runs were counted at the widths {missing}; all have {sorted(known)}")
    drawn = "images" if options.block is None else f"blocks of up to {options.block} consecutive frames"
    units, count = ("starting points, seeds", "runs") if options.pool_starts else ("seeds", "seeds")
    independent = "starting points, of each its seeds' mean," if options.pool_starts else "seeds"
    if options.baseline is None:
        lines = [f"{options.dataset}, percent; 95% interval over {drawn} ({REPLICATES} replicates)", ""]
        rows = [row for name in chosen for row in run_rows(name, chosen[name], metrics, options.block)]
        lines += markdown_table(["method", "seed", *metrics], rows)
    else:
        lines = [f"{options.dataset}, percent; mean over {independent} ± half width of the 95% t interval", ""]
        rows = [mean_row(name, chosen[name], metrics) for name in chosen]
        lines += markdown_table(["method", count, *metrics], rows)
    for reference in (options.baseline, *options.controls) if options.baseline is not None else ():
        compared = [name for name in chosen if name not in (reference, options.baseline)]
        alone = [name for name in compared if not {*chosen[name]} & {*runs[reference]}]
        rows = [
            row
            for name in compared
            for row in difference_rows(name, chosen[name], runs[reference], metrics, options.block)
        ]
        lines += [
            "",
            f"Difference to {reference}, 95% interval over {units} and {drawn} ({REPLICATES} replicates):",
            "",
        ]
        lines += markdown_table(["method", count, *metrics], rows)
        lines += ["", f"No seed in common with {reference}: {', '.join(alone)}."] if alone else []
    print("\n".join(lines))
    if options.picture is not None or options.class_picture is not None:
        draw(options, chosen, runs[options.baseline])
    if options.store is not None:
        for name, by_unit in chosen.items():
            for unit, counts in by_unit.items():
                file = options.store / folder_of_unit(name, unit) / f"{options.dataset}.npz"
                file.parent.mkdir(parents=True, exist_ok=True)
                counts.at_widths(options.widths).write(file)


def draw(options: argparse.Namespace, chosen: Mapping[str, Runs], baseline: Runs) -> None:
    methods = {name: runs for name, runs in chosen.items() if name != options.baseline and {*runs} & {*baseline}}
    if not methods:
        raise ValueError(f"no picture: none of {', '.join(chosen)} shares a seed with {options.baseline}")
    if options.picture is not None:
        records = [gain_curves(name, runs, baseline, list(PANELS), options.block) for name, runs in methods.items()]
        write_whole(options.picture, lambda path: draw_gains(records, options.baseline, path))
    if options.class_picture is not None:
        draw_classes(options, methods, baseline)


def draw_classes(options: argparse.Namespace, methods: Mapping[str, Runs], baseline: Runs) -> None:
    # Only the names of the classes need Detectron2, which is slow to import.
    import epl_d2.quiet_detectron2  # noqa: F401

    # isort: split
    from detectron2.data import MetadataCatalog

    from epl_d2 import register
    from epl_d2.data.dataset_check import require_registered

    register()
    require_registered(options.dataset)
    classes = MetadataCatalog.get(options.dataset).stuff_classes
    metrics = ["IoU", *(f"BF@{width}px" for width in options.widths)]
    records = [class_gains(name, runs, baseline, metrics, options.block) for name, runs in methods.items()]
    counted = len(records[0]["IoU"]["mean"])
    if counted != len(classes):
        raise ValueError(f"{options.runs} has counts of {counted} classes, and {options.dataset} has {len(classes)}")
    write_whole(options.class_picture, lambda path: draw_class_gains(records, classes, options.baseline, path))


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("runs", type=Path, metavar="RUNS")
    add("--dataset", required=True, help="the data set that was evaluated")
    add("--baseline", metavar="METHOD", help="differences to this one (default: none, single runs instead)")
    add("--controls", nargs="+", default=[], metavar="METHOD", help="differences to these, too")
    add("--methods", nargs="+", default=[], metavar="METHOD", help="rows of the tables (default: all)")
    add("--widths", nargs="+", type=int, default=[1, 3, 5, 9], help="pixels (default: 1 3 5 9)")
    add("--contours", action="store_true", help="precision, recall and contours of any class instead")
    add(
        "--pool-starts",
        action="store_true",
        help="METHOD_from_START of every START is one method; intervals draw starting points, then seeds",
    )
    add("--block", type=int, help="frames of a video that are drawn together (default: single images)")
    add(
        "--picture",
        type=Path,
        metavar="FILE",
        help="differences to the baseline against the width, with their intervals",
    )
    add("--class-picture", type=Path, metavar="FILE", help="the same for each class, IoU and boundary F at the widths")
    add("--store", type=Path, metavar="DIR", help="write the counts of these methods at these widths")
    options = parser.parse_args()
    if options.baseline is None and (options.controls or options.picture or options.class_picture):
        parser.error("--controls, --picture and --class-picture show differences: they need --baseline")
    if options.block is not None and options.block < 1:
        parser.error(f"--block must be at least 1, got {options.block}")
    run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
