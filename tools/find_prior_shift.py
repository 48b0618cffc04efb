#!/usr/bin/env python3
"""Which TEST.PRIOR_SHIFT is best? Scores of trained models at several tau, from one pass over the validation images.

    python tools/find_prior_shift.py --config-file configs/CamVid/semantic_fpn_mobilenet_v2_c64_240_2400_bs4.yaml \\
        --dataset camvid_sem_seg_val --weights output/seed_1/model_final.pth output/seed_2/model_final.pth

The best tau is the one with the highest mean of --metric over the models, the smallest of equals. Priors are counted
from the labels of DATASETS.TRAIN. Choose on validation data, then evaluate:
train_net.py --eval-only ... TEST.PRIOR_SHIFT TAU.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset

from epl_d2.checkpoint.loading import load_weights
from epl_d2.commands import command
from epl_d2.engine import Trainer, check_datasets, read_config, require_pixel_labels
from epl_d2.experiments.results import markdown_table
from epl_d2.files import write_whole
from epl_d2.modeling import with_test_time_protocol

TAUS = [round(0.05 * step, 2) for step in range(21)]
METRICS = ("mIoU", "BF@1px", "BF@3px", "BF-micro@1px", "BF-micro@3px", "Trimap-mIoU@3px", "Boundary-IoU@3px")


class SideBySide(DatasetEvaluator):
    """Several evaluators of the same outputs."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]):
        self.evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self.evaluators:
            evaluator.reset()

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for evaluator in self.evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> list[dict[str, float]]:
        return [evaluator.evaluate()["sem_seg"] for evaluator in self.evaluators]


def scores_at(cfg: CfgNode, taus: Sequence[float], weights: Sequence[str]) -> np.ndarray:
    """Scores [models, taus, METRICS] in percent on the first data set of DATASETS.TEST."""
    name = cfg.DATASETS.TEST[0]
    evaluators = []
    for tau in taus:
        shifted = cfg.clone()
        shifted.TEST.PRIOR_SHIFT = tau
        evaluators.append(Trainer.build_evaluator(shifted, name))
    model = Trainer.build_model(cfg)
    scores = []
    for path in weights:
        load_weights(model, path)
        loader = Trainer.build_test_loader(cfg, name)
        results = inference_on_dataset(with_test_time_protocol(cfg, model), loader, SideBySide(evaluators))
        scores.append([[result[metric] for metric in METRICS] for result in results])
    return np.array(scores)


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE")
    add("--dataset", required=True, help="registered validation data set")
    add("--weights", nargs="+", required=True, help="checkpoints of the same model, such as those of several seeds")
    add("--taus", nargs="+", type=float, default=TAUS, help="default: 0, 0.05, ..., 1")
    add("--metric", default="BF@3px", choices=METRICS, help="default: %(default)s")
    add("--output", type=Path, help="JSON file for the scores")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...; comes last")
    args = parser.parse_args()
    cfg = read_config(args.config_file, args.opts, weights=args.weights[0])
    require_pixel_labels(cfg, "shifted are the logits of")
    cfg.DATASETS.TEST = (args.dataset,)
    cfg.TEST.BOUNDARY.WIDTHS = cfg.TEST.BOUNDARY.REPORT_WIDTHS = [1, 3]
    cfg.OUTPUT_DIR = ""  # no files of the evaluators
    cfg.TEST.SAVE_PREDICTIONS = cfg.TEST.SAVE_IMAGE_COUNTS = False
    if wrong := [tau for tau in args.taus if not math.isfinite(tau)]:
        parser.error(f"--taus must be finite numbers, got {wrong[0]}")
    taus = sorted(set(args.taus))
    check_datasets(cfg, training=True)
    scores = scores_at(cfg, taus, args.weights)
    means = scores.mean(axis=0)
    of_metric = means[:, METRICS.index(args.metric)]
    if np.isnan(of_metric).all():
        raise ValueError(f"{args.metric} is undefined on {args.dataset} at every tau; choose another --metric")
    best = int(np.nanargmax(of_metric))
    rows = [[f"{tau:g}{' *' * (n == best)}", *(f"{v:.2f}" for v in means[n])] for n, tau in enumerate(taus)]
    print(f"{args.dataset}, percent, mean over {len(args.weights)} models; * is best by {args.metric}\n")
    print("\n".join(markdown_table(["tau", *METRICS], rows)))
    if args.output is not None:
        record = {"dataset": args.dataset, "metric": args.metric, "best": taus[best], "taus": taus}
        # JSON has no NaN.
        known = np.where(np.isnan(scores), None, scores)
        record["scores"] = {name: known[:, :, n].tolist() for n, name in enumerate(METRICS)}
        record["weights"] = list(map(str, args.weights))
        write_whole(args.output, lambda path: path.write_text(json.dumps(record, indent=1) + "\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
