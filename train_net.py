#!/usr/bin/env python
"""Train or evaluate semantic segmentation with Equipotential Learning.

python train_net.py --config-file configs/CamVid/deeplab_v3_plus_R_50_os16_epl.yaml --num-gpus 4
python train_net.py --config-file configs/Custom/... --dataset-file streets.yaml
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth TEST.AUG.ENABLED True
"""

import sys

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from epl_d2 import get_cfg
from epl_d2.checkpoint.checkpointer import Checkpointer
from epl_d2.checkpoint.loading import load_weights
from epl_d2.commands import command
from epl_d2.data.class_names import use_dataset_file
from epl_d2.engine import (
    Trainer,
    check_config,
    complete_config,
    leave_process_group,
    merge_config_file,
    prepare_config,
)
from epl_d2.engine.launch import DEFAULT_TIMEOUT, launch
from epl_d2.engine.setup import keep_expected_tracebacks_in_the_log


def setup(args):
    cfg = get_cfg()
    merge_config_file(cfg, args.config_file)
    if args.dataset_file:
        use_dataset_file(cfg, args.dataset_file)
    cfg.merge_from_list(args.opts)
    complete_config(cfg, training=not args.eval_only)
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="epl_d2")
    keep_expected_tracebacks_in_the_log()
    prepare_config(cfg)
    cfg.freeze()
    check_config(cfg, training=not args.eval_only)
    return cfg


def main(args):
    cfg = setup(args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        found = Checkpointer(model, cfg.OUTPUT_DIR).get_checkpoint_file() if args.resume else ""
        load_weights(model, found or cfg.MODEL.WEIGHTS)
        results = Trainer.test(cfg, model)
    else:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        results = trainer.train()
    leave_process_group()
    return results


@command
def start() -> None:
    parser = default_argument_parser()
    parser.add_argument(
        "--dataset-file",
        default="",
        metavar="FILE",
        help="YAML file that describes your data set (docs/data.md): sets DATASETS.* and the number of classes",
    )
    parser.add_argument(
        "--dist-timeout",
        type=float,
        default=DEFAULT_TIMEOUT,
        metavar="MINUTES",
        help="after which a process that does not answer is given up (default: %(default)g)",
    )
    args = parser.parse_args()
    if not args.config_file:
        parser.error("--config-file is missing: give one of configs/*/*.yaml, or one of yours that is based on them")
    if args.config_file.endswith(".py"):
        raise ValueError(
            f"--config-file {args.config_file}: train_net.py takes YAML configs; train a LazyConfig by Detectron2's "
            "tools/lazyconfig_train_net.py, with the heads and losses of epl_d2 in it (docs/models.md, LazyConfig)"
        )
    launch(
        main,
        (args,),
        num_gpus=args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        timeout=args.dist_timeout,
    )


if __name__ == "__main__":
    sys.exit(start())
