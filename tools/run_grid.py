#!/usr/bin/env python3
"""Train a grid of methods and seeds, evaluate each model, and sum up with intervals (docs/grids.md).

    python tools/run_grid.py configs/grids/camvid_evidence_cpu.yaml --opts MODEL.WEIGHTS weights/mobilenet_v2.pth
    python tools/run_grid.py GRID.yaml --dry-run            # check and list the runs, with an estimate of their cost
    python tools/run_grid.py GRID.yaml --collect            # make the tables again from the runs that exist
    python tools/run_grid.py GRID.yaml --methods cross_entropy 'point_*'    # only these; tables hold all finished ones
    python tools/run_grid.py GRID.yaml --seeds 1 --gpu-hours 24     # only the first runs that are estimated to fit
    python tools/run_grid.py GRID.yaml --slurm slurm_partition=gpu gpus_per_node=1 timeout_min=600

Several grids are checked together and run one after the other. Started again it goes on where it stopped. Exit code 1:
a run failed; its name and log are printed.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import hashlib
import math
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from epl_d2.commands import command
from epl_d2.experiments.grid import Grid, read_grid
from epl_d2.experiments.runs import Run, read_record

ROOT = Path(__file__).resolve().parents[1]


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("grids", type=Path, nargs="+", metavar="GRID.yaml")
    add("--output", type=Path, help="folder of the results and runs of one grid (default: those of the grid)")
    add("--jobs", type=int, help="runs at once (default: that of the grid)")
    add("--methods", nargs="+", metavar="METHOD", help="train only these, or those that fit a pattern (default: all)")
    add("--seeds", nargs="+", type=int, metavar="SEED", help="train only with these of the grid's seeds (default: all)")
    add("--gpu-hours", type=float, metavar="N", help="start only the first runs that are estimated to take N GPU hours")
    add("--tflops", type=float, metavar="T", help="10^12 operations a second that a GPU sustains, for the estimate")
    add("--gpus-per-run", type=int, default=1, metavar="N", help="GPUs that share the batches of each run (default: 1)")
    add("--gpus", help='CUDA devices to share, comma-separated, "" for none (default: all visible)')
    add(
        "--dry-run",
        action="store_true",
        help="check all but the files of data and weights, list the runs and their cost",
    )
    add("--collect", action="store_true", help="only make the tables, from the runs that have finished")
    add("--slurm", nargs="*", metavar="KEY=VALUE", help="submit to Slurm with these parameters of submitit")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... for all runs; comes last")
    options = parser.parse_args()
    for name in ("jobs", "gpus_per_run"):
        if (number := getattr(options, name)) is not None and number < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {number}")
    for name in ("gpu_hours", "tflops"):
        if (number := getattr(options, name)) is not None and not number > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0, got {number}")
    if options.output is not None and len(options.grids) > 1:
        parser.error("--output takes one grid")
    return run(options)


def run(options: argparse.Namespace) -> int:
    grids = [read_grid(path).with_overrides(options.opts) for path in options.grids]
    chosen = [(choose_methods(grid, options.methods), choose_seeds(grid, options.seeds)) for grid in grids]
    places = [(options.output or Path(grid.output), options.output or Path(grid.runs)) for grid in grids]
    if options.collect:
        for grid, (output, folder) in zip(grids, places, strict=True):
            collect(grid, output, folder)
        return 0

    import epl_d2.quiet_detectron2  # noqa: F401

    # isort: split
    from epl_d2.experiments.cost import TERAFLOPS, affordable  # loads PyTorch and Detectron2
    from epl_d2.experiments.plan import check_same_configuration, plan_runs

    teraflops = options.tflops or TERAFLOPS
    plans = []
    for grid, (methods, seeds), (_, folder) in zip(grids, chosen, places, strict=True):
        runs = plan_runs(grid, folder, ROOT, files=not options.dry_run)
        for planned in runs:  # of all runs, since the tables hold all
            check_same_configuration(planned)
        runs = [planned for planned in runs if planned.method in methods and planned.seed in seeds]
        plans.append([replace(planned, gpus=options.gpus_per_run) for planned in runs])
    # By folder, because grids can share runs.
    waiting = {planned.folder: planned for planned in chain(*plans) if read_record(planned.folder) is None}
    if options.gpu_hours is not None:
        fitting = affordable(list(waiting.values()), options.gpu_hours, teraflops)
        print(f"{len(fitting)} of {len(waiting)} runs are estimated to fit into {options.gpu_hours:g} GPU hours")
        dropped = waiting.keys() - {planned.folder for planned in fitting}
        plans = [[planned for planned in runs if planned.folder not in dropped] for runs in plans]
        waiting = {planned.folder: planned for planned in fitting}
    if options.dry_run:
        list_runs(list(chain(*plans)), waiting, teraflops)
        return 0

    from epl_d2.experiments.launch import lock_folder, run_all, visible_gpus

    gpus = visible_gpus() if options.gpus is None else [gpu for gpu in options.gpus.split(",") if gpu]
    end = time.monotonic() + 3600 * (options.gpu_hours or math.inf) / max(1, len(set(gpus)))
    failed = {}
    for grid, runs, (output, folder) in zip(grids, plans, places, strict=True):
        if not runs:
            continue
        grid_hash = hashlib.sha256("".join(planned.config_hash for planned in runs).encode()).hexdigest()[:12]
        with lock_folder(folder, grid_hash):
            failed |= run_all(
                runs,
                folder / "submitit",
                options.jobs or grid.jobs,
                gpus=gpus,
                slurm=None if options.slurm is None else slurm_parameters(options.slurm),
                end=end,
                say=lambda line: print(line, flush=True),
            )
            if any(read_record(planned.folder) for planned in runs):
                collect(grid, output, folder)
    for message in failed.values():
        print(f"failed: {message}", file=sys.stderr)
    return 1 if failed else 0


def choose_methods(grid: Grid, patterns: list[str] | None) -> list[str]:
    """The names that fit one of the patterns; all names without patterns."""
    names = [method.name for method in grid.methods]
    for pattern in patterns or ():
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"--methods: {grid.path} has no {pattern}; it has {', '.join(names)}")
    return [name for name in names if patterns is None or any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def choose_seeds(grid: Grid, seeds: list[int] | None) -> list[int]:
    """`seeds`, all of which the grid must have; those of the grid without any."""
    if unknown := [seed for seed in seeds or () if seed not in grid.seeds]:
        raise ValueError(f"--seeds: {grid.path} has no {unknown}; it has {list(grid.seeds)}")
    return list(seeds or grid.seeds)


def list_runs(runs: list[Run], waiting: Mapping[str, Run], teraflops: float) -> None:
    """The runs with their commands, and what those that have not finished are estimated to cost."""
    from epl_d2.experiments.cost import ASSUMPTIONS, gpu_hours

    width = max((len(planned.name) for planned in runs), default=0)
    for planned in runs:
        hours = "? h" if planned.operations is None else f"{gpu_hours(planned.operations, teraflops):.2f} h"
        cost = hours if planned.folder in waiting else "finished"
        print(f"{planned.name:<{width}} {cost:>8} {planned.config_hash} {shlex.join(planned.command)}")
    total = gpu_hours(sum(planned.operations or 0.0 for planned in waiting.values()), teraflops)
    print(f"estimate: {total:.2f} GPU hours at {teraflops:g} TFLOP/s (--tflops): {ASSUMPTIONS}")
    iterations = sum(planned.max_iter for planned in waiting.values())
    print(f"{len(runs)} runs, {len(waiting)} of them to start, {iterations} iterations")


def collect(grid: Grid, output: Path, folder: Path) -> None:
    from epl_d2.experiments.results import write_results
    from epl_d2.provenance import describe_commit

    for path in write_results(grid, output, folder, str(describe_commit(ROOT)["commit"])):
        print(f"written: {path}")


def slurm_parameters(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE of the command line, numbers as numbers."""
    parameters = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--slurm takes KEY=VALUE, got {pair!r}")
        try:
            parameters[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parameters[key] = value
    return parameters


if __name__ == "__main__":
    sys.exit(main())
