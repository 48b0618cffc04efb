#!/usr/bin/env python3
"""Train a grid of methods and seeds, evaluate each model, and sum up with intervals (docs/grids.md).

    python tools/run_grid.py configs/grids/camvid_evidence_cpu.yaml --opts MODEL.WEIGHTS weights/mobilenet_v2.pth
    python tools/run_grid.py GRID.yaml --dry-run            # check and list the runs
    python tools/run_grid.py GRID.yaml --collect            # make the tables again from the runs that exist
    python tools/run_grid.py GRID.yaml --methods cross_entropy epl    # only these; tables hold all that have finished
    python tools/run_grid.py GRID.yaml --slurm slurm_partition=gpu gpus_per_node=1 timeout_min=600

Started again it goes on where it stopped. Exit code 1: a run failed; its name and log are printed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import shlex
import sys
from pathlib import Path
from typing import Any

from epl_d2.experiments.grid import Grid, read_grid

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("grid", type=Path, metavar="GRID.yaml")
    add("--output", type=Path, help="folder of the results (default: that of the grid)")
    add("--jobs", type=int, help="runs at once (default: that of the grid)")
    add("--methods", nargs="+", metavar="METHOD", help="train only these of the grid's methods (default: all)")
    add("--gpus", help='CUDA devices to share, comma-separated, "" for none (default: all visible)')
    add("--dry-run", action="store_true", help="check all but the files of data and weights, and list the runs")
    add("--collect", action="store_true", help="only make the tables, from the runs that have finished")
    add("--slurm", nargs="*", metavar="KEY=VALUE", help="submit to Slurm with these parameters of submitit")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... for all runs; comes last")
    options = parser.parse_args()
    if options.jobs is not None and options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    try:
        return run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    grid = read_grid(options.grid).with_overrides(options.opts)
    output = options.output or Path(grid.output)
    names = [method.name for method in grid.methods]
    chosen = options.methods or names
    if unknown := [name for name in chosen if name not in names]:
        raise ValueError(f"--methods: {grid.path} has no {', '.join(unknown)}; it has {', '.join(names)}")
    if options.collect:
        return collect(grid, output)

    import epl_d2.quiet_detectron2  # noqa: F401

    # isort: split
    from epl_d2.experiments.plan import check_same_configuration, plan_runs  # loads PyTorch and Detectron2

    runs = plan_runs(grid, output, ROOT, files=not options.dry_run)
    runs = [planned for planned in runs if planned.method in chosen]
    for planned in runs:
        check_same_configuration(planned)
    if options.dry_run:
        for planned in runs:
            print(f"{planned.config_hash} {shlex.join(planned.command)}")
        print(f"{len(runs)} runs, {sum(planned.max_iter for planned in runs)} iterations")
        return 0

    from epl_d2.experiments.launch import lock_folder, run_all, visible_gpus

    gpus = visible_gpus() if options.gpus is None else [gpu for gpu in options.gpus.split(",") if gpu]
    grid_hash = hashlib.sha256("".join(planned.config_hash for planned in runs).encode()).hexdigest()[:12]
    with lock_folder(output, grid_hash):
        failed = run_all(
            runs,
            output / "submitit",
            options.jobs or grid.jobs,
            gpus=gpus,
            slurm=None if options.slurm is None else slurm_parameters(options.slurm),
            say=lambda line: print(line, flush=True),
        )
        collect(grid, output)
    for message in failed.values():
        print(f"failed: {message}", file=sys.stderr)
    return 1 if failed else 0


def collect(grid: Grid, output: Path) -> int:
    from epl_d2.experiments.provenance import describe_commit
    from epl_d2.experiments.results import write_results

    for path in write_results(grid, output, str(describe_commit(ROOT)["commit"])):
        print(f"written: {path}")
    return 0


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
