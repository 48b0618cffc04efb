#!/usr/bin/env python3
"""Make a checkpoint ready to be shared: weights alone, named by their hash, with their config and a model card.

    python tools/publish_model.py output/grids/camvid_evidence_cpu/epl_contour/seed_1 --output published/epl_contour

The run is a folder of `train_net.py` or of `tools/run_grid.py`. The new folder appears whole or not at all; it holds
`model_final_xxxxxxxx.pth` (the first 8 digits of its SHA-256), `config.yaml` with the names and colors of the classes,
and `README.md`. Nothing else is needed to use the model. Scores are those of `model_final.pth`, which the training
evaluates; the card of another --checkpoint has none.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import torch
from detectron2.config import CfgNode

from epl_d2 import get_cfg
from epl_d2.checkpoint.files import check_finite, read_checkpoint, tensors_of
from epl_d2.checkpoint.loading import checked_entries, warn_of_other_convolutions
from epl_d2.commands import command
from epl_d2.data.class_names import keep_names_and_colors, use_names_of
from epl_d2.data.datasets import register_from_config
from epl_d2.data.datasets.arguments import DATASET_FILE_HELP
from epl_d2.data.datasets.description import read_description
from epl_d2.engine import Trainer, require_pixel_labels
from epl_d2.evaluation.report import CURVES_FILE
from epl_d2.experiments.scores import headline_metrics, read_scores
from epl_d2.files import whole_folder
from epl_d2.run_record import load_record

ROOT = Path(__file__).resolve().parents[1]
UNKNOWN = "not recorded"
EVALUATED = "model_final.pth"  # the checkpoint whose scores the training leaves


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder with config.yaml and the checkpoint")
    parser.add_argument("--output", type=Path, required=True, help="folder to make; it must not exist")
    parser.add_argument("--checkpoint", default=EVALUATED, help="file in the run's folder (default: %(default)s)")
    parser.add_argument("--dataset-file", metavar="FILE", help=f"{DATASET_FILE_HELP}: names that the config lacks")
    parser.add_argument(
        "--half", action="store_true", help="store numbers in half precision, which a model reads as any others"
    )
    options = parser.parse_args()
    file = publish(options.run, options.output, options.checkpoint, options.dataset_file, half=options.half)
    print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")
    return 0


def publish(
    run: Path,
    output: Path,
    checkpoint: str = EVALUATED,
    dataset_file: str | None = None,
    *,
    half: bool = False,
) -> Path:
    """Write the folder `output` and return the path of its checkpoint.

    Raises:
        FileExistsError: `output` exists.
        FileNotFoundError, ValueError: the run lacks its config, checkpoint or (of `model_final.pth`) evaluation, or one
            cannot be read; the model finds instances; the checkpoint is one of another model; or a weight is not
            finite, or too large for half precision.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another --output, or remove it")
    cfg = read_config(run / "config.yaml", dataset_file)
    require_pixel_labels(cfg, "published is")
    metrics = read_metrics(run, cfg) if Path(checkpoint) == Path(EVALUATED) else {}
    weights = strip(run / checkpoint, cfg, half)
    name = f"{Path(checkpoint).stem}_{hashlib.sha256(weights).hexdigest()[:8]}.pth"
    record = load_record(run) or {}
    described = [Path(file).name for file in cfg.DATASETS.SEM_SEG_FILES]
    card = model_card(name, cfg, record, metrics, described, half=half)
    cfg.MODEL.WEIGHTS = name
    cfg.OUTPUT_DIR = "./output"
    cfg.DATASETS.SEM_SEG_FILES = []  # a place on the machine of the training
    with whole_folder(output) as temporary:
        (temporary / name).write_bytes(weights)
        (temporary / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return output / name


def read_config(file: Path, dataset_file: str | None = None) -> CfgNode:
    """The resolved configuration that `train_net.py` leaves in its folder, with the names of the classes."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; is this the folder of a run?")
    cfg = get_cfg()
    try:
        cfg.merge_from_file(str(file))
    except (KeyError, AssertionError) as error:
        raise ValueError(f"{file} does not fit this version of epl_d2: {error}") from error
    if dataset_file:
        use_names_of(cfg, read_description(dataset_file))
    elif not cfg.DATASETS.CLASSES:  # an earlier version did not write them
        register_from_config(cfg, needed=False)
        keep_names_and_colors(cfg)
    return cfg


def strip(checkpoint: Path, cfg: CfgNode, half: bool = False) -> bytes:
    """The model's tensors of a checkpoint as the bytes of a new one, without optimizer, scheduler and iteration.

    Raises:
        FileNotFoundError, ValueError: the checkpoint cannot be read or does not fit the model of `cfg`, or a weight is
            not finite, or not in half precision.
    """
    content = read_checkpoint(checkpoint)
    model = Trainer.build_model(on_cpu(cfg))
    warn_of_other_convolutions(content, model, checkpoint)
    entries = checked_entries(tensors_of(content, checkpoint), model, checkpoint)
    tensors = {name: value.contiguous() for name, value in entries.items()}
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        check_finite(tensors, f"{checkpoint} in half precision")
    # Who loads the file is told by them where a config has other strides or dilations.
    kept = {"convolutions": content["convolutions"]} if "convolutions" in content else {}
    buffer = io.BytesIO()
    torch.save({"model": tensors, **kept, "__author__": "epl_d2"}, buffer)
    return buffer.getvalue()


def on_cpu(cfg: CfgNode) -> CfgNode:
    """`cfg` for a model that is built anywhere: its entries are the same on every device."""
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def read_metrics(run: Path, cfg: CfgNode) -> dict[str, dict[str, float | None]]:
    """Scores by data set, of the evaluation after the training."""
    names = cfg.DATASETS.TEST
    folders = {name: run / "inference" / (name if len(names) > 1 else "") for name in names}
    return {name: read_scores(folder / CURVES_FILE) for name, folder in folders.items()}


def model_card(
    name: str,
    cfg: CfgNode,
    record: dict[str, Any],
    metrics: dict[str, dict[str, float | None]],
    described: Sequence[str] = (),
    *,
    half: bool = False,
) -> str:
    """Markdown: what the model is, where it comes from, how it scores, how to use and evaluate it.

    Args:
        name: of the checkpoint.
        cfg: of the run.
        record: what a run or a grid recorded.
        metrics: scores by data set; none of a checkpoint that was not evaluated.
        described: names of the YAML files that describe the data sets.
        half: whether the weights are stored in half precision.
    """
    epl, head, solver = cfg.MODEL.EPL, cfg.MODEL.SEM_SEG_HEAD, cfg.SOLVER
    losses = [head.LOSS_TYPE]
    if epl.ENABLED:
        losses.append(
            f"EPL (point {epl.POINT.WEIGHT}, line {epl.LINE.WEIGHT}, {epl.LINE.FORMULATION}, splitter {epl.SPLITTER}, "
            f"kernels {epl.POINT.KERNEL_SIZE} and {epl.LINE.KERNEL_SIZE}, mu {epl.LINE.MU}, "
            f"ignored pixels: {epl.IGNORE_MODE})"
        )
    losses += [f"{key.lower()} ({node.WEIGHT})" for key, node in cfg.MODEL.EXTRA_LOSSES.items() if node.WEIGHT]
    commits = " + ".join(record.get("commits", ())) or UNKNOWN
    facts = {
        "file": name,
        "classes": ", ".join(cfg.DATASETS.CLASSES),
        "model": f"{head.NAME} on {cfg.MODEL.BACKBONE.NAME}, {head.NUM_CLASSES} classes",
        "losses": ", ".join(losses),
        "started from": Path(cfg.MODEL.WEIGHTS).name or "random weights",
        "trained on": ", ".join(cfg.DATASETS.TRAIN),
        "schedule": f"{solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} images, learning rate {solver.BASE_LR}",
        "seed": str(cfg.SEED),
        "device": record.get("device", UNKNOWN),
        "minutes": str(record.get("minutes", UNKNOWN)),
        "commit": commits + (" (the work tree differed from it)" if record.get("dirty") else ""),
    }
    lines = [f"# {Path(name).stem}", "", "| | |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    rounded = ", before its weights were rounded to half precision" if half else ""
    lines += ["", "## Scores", ""]
    if metrics:
        columns = headline_metrics(list(cfg.TEST.BOUNDARY.REPORT_WIDTHS))
        lines += [f"Percent, of the model after its last iteration{rounded}.", ""]
        lines += [f"| data set | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    else:
        lines.append("This checkpoint was not evaluated; the command for it is below.")
    for data_set, scores in metrics.items():
        cells = ["-" if scores.get(column) is None else f"{scores[column]:.2f}" for column in columns]
        lines.append(f"| {data_set} | {' | '.join(cells)} |")
    command = [part.replace(f"{ROOT}{os.sep}", "") for part in record.get("command", ())]
    lines += ["", "## Commands", "", "Training:", ""]
    lines += [f"    python {shlex.join(command)}" if command else f"    {UNKNOWN}"]
    lines += ["", "Pictures, in this folder; `config.yaml` has all that the model needs:", ""]
    lines += ["    python PATH_TO_EPL_D2/demo/demo.py --config-file config.yaml --input PICTURES --output segmented"]
    lines += ["", "Evaluation, in this folder" + (", which needs the data set's file too:" if described else ":"), ""]
    config = "config.yaml" + "".join(f" --dataset-file {file}" for file in described[:1])
    lines += [f"    python PATH_TO_EPL_D2/train_net.py --config-file {config} --eval-only MODEL.WEIGHTS {name}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
