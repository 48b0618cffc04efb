"""Every key that epl_d2 adds changes what is built from it. How: test_trainer_wiring.py, modeling/test_wiring.py."""

import json
from collections.abc import Mapping
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_sem_seg_head
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config
from torch import nn

from epl_d2 import get_cfg
from epl_d2.data.build import build_sem_seg_train_loader
from epl_d2.data.class_names import names_and_colors
from epl_d2.data.dataset_mapper import SemSegDatasetMapper
from epl_d2.engine import Trainer, complete_config, evaluators
from epl_d2.engine.writers import WandbWriter
from epl_d2.modeling import EPLSemanticSegmentor, with_test_time_protocol
from epl_d2.modeling.losses import build_criterion, build_epl_loss, build_extra_losses, build_mask_epl_loss

DATASET = "wiring"
LOSS_TYPES = ("cross_entropy", "hard_pixel_mining", "ohem", "label_relaxation", "image_weighted")

# Of the features that the heads are built for.
SHAPES = {
    **{f"res{level}": ShapeSpec(channels=32 * level, stride=2**level) for level in (2, 3, 4, 5)},
    **{f"mod{level}": ShapeSpec(channels=8 * level, stride=8) for level in (1, 2, 3, 4, 5, 6, 7)},
}
SMALL_HEAD = [
    *("MODEL.SEM_SEG_HEAD.NORM", "BN", "MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
    *("MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 16, "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [8]),
    *("INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [65, 65]),
]


class TwoParts(nn.Module):
    """Stands for a model where only names of parameters count."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.sem_seg_head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))


class TinyTrainer(Trainer):
    """The trainer without a model to speak of and without data."""

    @classmethod
    def build_model(cls, cfg):
        return TwoParts()

    @classmethod
    def build_train_loader(cls, cfg):
        return build_sem_seg_train_loader(cfg)


def epl(cfg):
    return build_epl_loss(cfg)


def all_criteria(cfg):
    built = []
    for name in LOSS_TYPES:
        one = cfg.clone()
        one.MODEL.SEM_SEG_HEAD.LOSS_TYPE = name
        built.append(build_criterion(one))
    return built


def head(name, features, *options):
    def build(cfg):
        cfg.MODEL.SEM_SEG_HEAD.merge_from_list(["NAME", name, "IN_FEATURES", features])
        return build_sem_seg_head(cfg, SHAPES)

    return build, [*SMALL_HEAD, *options]


def backbone(name):
    def build(cfg):
        cfg.MODEL.BACKBONE.merge_from_list(["NAME", name, "FREEZE_AT", 0])
        return build_backbone(cfg)

    return build, []


def protocol(cfg):
    model = EPLSemanticSegmentor(
        backbone=nn.Identity(), sem_seg_head=nn.Identity(), pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3
    )
    return with_test_time_protocol(cfg, model)


def evaluator(cfg):
    return Trainer.build_evaluator(cfg, DATASET)


def mask_evaluator(cfg):
    """Of a COCO file without objects, in the present folder."""
    with open("instances.json", "w") as file:
        json.dump({"images": [], "categories": [], "annotations": []}, file)
    MetadataCatalog.get("wiring_masks").set(json_file="instances.json", evaluator_type="coco")
    cfg.MODEL.MASK_ON = True
    try:
        return Trainer.build_evaluator(cfg, "wiring_masks")
    finally:
        MetadataCatalog.remove("wiring_masks")


def hooks_and_metric(cfg):
    return [(type(hook).__name__, vars(hook).get("_val_metric")) for hook in TinyTrainer(cfg)._hooks]


def optimizer(cfg):
    return Trainer.build_optimizer(cfg, TwoParts())


def memory_format(cfg):
    cfg.MODEL.merge_from_list(["META_ARCHITECTURE", "EPLSemanticSegmentor", "DEVICE", "meta"])
    cfg.MODEL.BACKBONE.merge_from_list(["NAME", "MobileNetV2", "FREEZE_AT", 0])
    cfg.MODEL.SEM_SEG_HEAD.merge_from_list(["NAME", "EPLPSPHead", "IN_FEATURES", ["res5"]])
    return Trainer.build_model(cfg)


def writers(cfg):
    built = Trainer.__new__(Trainer)  # without model and data
    built.cfg, built.max_iter = cfg, 1
    return [vars(writer)["_run"] for writer in built.build_writers() if isinstance(writer, WandbWriter)]


def dataset(cfg):
    held = vars(build_sem_seg_train_loader(cfg).dataset)
    return {name: value for name, value in held.items() if name != "_unreadable"}  # memory shared with the workers


def mapper(cfg):
    return SemSegDatasetMapper(cfg, True)


def iterations(cfg):
    complete_config(cfg, training=True)
    return cfg.SOLVER.MAX_ITER


WITH_ALL_STEPS = ["INPUT.AUGMENTATIONS", ["scale", "rotate", "blur", "flip", "crop", "color_jitter"]]
WEIGHTED = "CLASS_WEIGHTED_CROSS_ENTROPY"
EVERY_EXTRA_LOSS = [
    part
    for name in (
        "GENERALIZED_DICE",
        "BOUNDARY",
        "ACTIVE_BOUNDARY",
        "LOVASZ",
        "BOUNDARY_F",
        "BAND_CROSS_ENTROPY",
        WEIGHTED,
    )
    for part in (f"MODEL.EXTRA_LOSSES.{name}.WEIGHT", 1.0)
] + [f"MODEL.EXTRA_LOSSES.{WEIGHTED}.CLASS_WEIGHTS", [1.0] * 54]
PROTOCOL = ["TEST.AUG.ENABLED", True, "TEST.WINDOW.ENABLED", True]
# Prefix of keys -> what is built from them, and the options that switch it on. The longest prefix counts.
BUILDERS = {
    "MODEL.EPL": (epl, []),
    "MODEL.EPL.MASK": (build_mask_epl_loss, []),
    "MODEL.EXTRA_LOSSES": (build_extra_losses, EVERY_EXTRA_LOSS),
    "MODEL.SEM_SEG_HEAD": head("EPLPSPHead", ["res5"], "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE", "res4"),
    "MODEL.SEM_SEG_HEAD.OHEM": (all_criteria, []),
    "MODEL.SEM_SEG_HEAD.LABEL_RELAXATION": (all_criteria, []),
    "MODEL.MEMORY_FORMAT": (memory_format, SMALL_HEAD),
    "MODEL.MOBILENETV2": backbone("MobileNetV2"),
    "MODEL.WIDE_RESNET38": backbone("WideResNet38"),
    "MODEL.DRN": backbone("DRN"),
    "MODEL.PSP": head("EPLPSPHead", ["res5"]),
    "MODEL.PSA": head("EPLPSAHead", ["res3"]),
    "MODEL.CC": head("EPLCCHead", ["res5"]),
    "MODEL.GSCNN": head("EPLGSCNNHead", ["mod2", "mod7"]),
    "INPUT": (mapper, [*WITH_ALL_STEPS, "INPUT.CROP.ENABLED", True]),
    "INPUT.BLUR.SIGMA": (mapper, [*WITH_ALL_STEPS, "INPUT.BLUR.KERNEL_SIZE", 3]),
    "DATALOADER": (dataset, ["DATASETS.TRAIN", (DATASET,), "SEED", 1]),
    "DATASETS": (names_and_colors, ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2]),
    "SOLVER": (optimizer, []),
    "SOLVER.EPOCHS": (iterations, ["DATASETS.TRAIN", (DATASET,), "SOLVER.MAX_ITER", 0]),
    "TEST.BOUNDARY": (evaluator, []),
    "TEST.BOUNDARY.DILATION_RATIO": (mask_evaluator, []),
    "TEST.PRIOR_SHIFT": (evaluator, []),
    "TEST.SAVE_PREDICTIONS": (evaluator, []),
    "TEST.SAVE_IMAGE_COUNTS": (evaluator, []),
    "TEST.BEST_CHECKPOINT_METRIC": (hooks_and_metric, ["DATASETS.TRAIN", (DATASET,)]),
    "TEST.AUG": (protocol, PROTOCOL),
    "TEST.WINDOW": (protocol, PROTOCOL),
    "TEST.WINDOW.ENABLED": (protocol, []),
    "WANDB": (writers, ["WANDB.ENABLED", True]),
    "WANDB.ENABLED": (writers, []),
}
# Every key that epl_d2 adds, with a value that is not what the object is built with otherwise.
OTHER = {
    "MODEL.EPL.ENABLED": False,
    "MODEL.EPL.SPLITTER": "C",
    "MODEL.EPL.CONVOLUTION": "standard",
    "MODEL.EPL.IGNORE_MODE": "exclude",
    "MODEL.EPL.STRIDE": 2,
    "MODEL.EPL.BACKEND": "plain",
    "MODEL.EPL.START_ITER": 30,
    "MODEL.EPL.RAMP_ITERS": 40,
    "MODEL.EPL.START_FRACTION": 0.5,
    "MODEL.EPL.RAMP_FRACTION": 0.1,
    "MODEL.EPL.POINT.WEIGHT": 0.3,
    "MODEL.EPL.POINT.KERNEL_SIZE": 13,
    "MODEL.EPL.POINT.NORM": "l1",
    "MODEL.EPL.POINT.REGION": "lines",
    "MODEL.EPL.LINE.WEIGHT": 0.4,
    "MODEL.EPL.LINE.KERNEL_SIZE": 9,
    "MODEL.EPL.LINE.MU": 6,
    "MODEL.EPL.LINE.FORMULATION": "official",
    "MODEL.EPL.MASK.POINT.WEIGHT": 0.35,
    "MODEL.EPL.MASK.POINT.KERNEL_SIZE": 11,
    "MODEL.EPL.MASK.LINE.WEIGHT": 0.45,
    "MODEL.EPL.MASK.LINE.KERNEL_SIZE": 7,
    "MODEL.EXTRA_LOSSES.GENERALIZED_DICE.WEIGHT": 0.21,
    "MODEL.EXTRA_LOSSES.GENERALIZED_DICE.START_ITER": 21,
    "MODEL.EXTRA_LOSSES.GENERALIZED_DICE.RAMP_ITERS": 211,
    "MODEL.EXTRA_LOSSES.BOUNDARY.WEIGHT": 0.22,
    "MODEL.EXTRA_LOSSES.BOUNDARY.START_ITER": 22,
    "MODEL.EXTRA_LOSSES.BOUNDARY.RAMP_ITERS": 222,
    "MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.WEIGHT": 0.23,
    "MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.START_ITER": 23,
    "MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.RAMP_ITERS": 233,
    "MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.MAX_DISTANCE": 7.0,
    "MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.MAX_FRACTION": 0.2,
    "MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.LABEL_SMOOTHING": 0.1,
    "MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT": 0.24,
    "MODEL.EXTRA_LOSSES.LOVASZ.START_ITER": 24,
    "MODEL.EXTRA_LOSSES.LOVASZ.RAMP_ITERS": 244,
    "MODEL.EXTRA_LOSSES.LOVASZ.PER_IMAGE": True,
    "MODEL.EXTRA_LOSSES.BOUNDARY_F.WEIGHT": 0.25,
    "MODEL.EXTRA_LOSSES.BOUNDARY_F.START_ITER": 25,
    "MODEL.EXTRA_LOSSES.BOUNDARY_F.RAMP_ITERS": 255,
    "MODEL.EXTRA_LOSSES.BOUNDARY_F.TOLERANCE": 2,
    "MODEL.EXTRA_LOSSES.BAND_CROSS_ENTROPY.WEIGHT": 0.26,
    "MODEL.EXTRA_LOSSES.BAND_CROSS_ENTROPY.START_ITER": 26,
    "MODEL.EXTRA_LOSSES.BAND_CROSS_ENTROPY.RAMP_ITERS": 266,
    "MODEL.EXTRA_LOSSES.BAND_CROSS_ENTROPY.WIDTH": 4.0,
    "MODEL.EXTRA_LOSSES.CLASS_WEIGHTED_CROSS_ENTROPY.WEIGHT": 0.27,
    "MODEL.EXTRA_LOSSES.CLASS_WEIGHTED_CROSS_ENTROPY.START_ITER": 27,
    "MODEL.EXTRA_LOSSES.CLASS_WEIGHTED_CROSS_ENTROPY.RAMP_ITERS": 277,
    "MODEL.EXTRA_LOSSES.CLASS_WEIGHTED_CROSS_ENTROPY.CLASS_WEIGHTS": [1.5] * 54,
    "MODEL.SEM_SEG_HEAD.OHEM.THRESHOLD": 0.6,
    "MODEL.SEM_SEG_HEAD.OHEM.MIN_KEPT": 5000,
    "MODEL.SEM_SEG_HEAD.OHEM.FACTOR": 2,
    "MODEL.SEM_SEG_HEAD.LABEL_RELAXATION.BORDER": 3,
    "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT": 0.3,
    "MODEL.SEM_SEG_HEAD.DROPOUT": 0.2,
    "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE": "res3",
    "MODEL.SEM_SEG_HEAD.AUX_CONVS_DIM": 12,
    "MODEL.MEMORY_FORMAT": "channels_last",
    "MODEL.MOBILENETV2.OUT_FEATURES": ["res3"],
    "MODEL.MOBILENETV2.OUTPUT_STRIDE": 8,
    "MODEL.MOBILENETV2.NORM": "BN",
    "MODEL.MOBILENETV2.PAD_BEFORE_EXPANSION": False,
    "MODEL.WIDE_RESNET38.OUT_FEATURES": ["mod3"],
    "MODEL.WIDE_RESNET38.NORM": "BN",
    "MODEL.DRN.OUT_FEATURES": ["layer4"],
    "MODEL.DRN.NORM": "BN",
    "MODEL.PSP.BINS": [1, 4],
    "MODEL.PSP.CHANNELS": 24,
    "MODEL.PSA.TYPE": "collect",
    "MODEL.PSA.CHANNELS": 24,
    "MODEL.PSA.SHRINK_FACTOR": 1,
    "MODEL.PSA.MASK_SIZE": [3, 3],
    "MODEL.CC.RECURRENCE": 3,
    "MODEL.CC.CHANNELS": 16,
    "MODEL.CC.OUT_CHANNELS": 24,
    "MODEL.GSCNN.SHAPE_FEATURES": ["mod1", "mod2", "mod4", "mod7"],
    "MODEL.GSCNN.SHAPE_CHANNELS": [32, 16, 4],
    "MODEL.GSCNN.EDGE_WEIGHT": 2.0,
    "MODEL.GSCNN.ATTENTION_WEIGHT": 3.0,
    "MODEL.GSCNN.DUAL_TASK_WEIGHT": 4.0,
    "MODEL.GSCNN.EDGES_OF_ALL_CLASSES": True,
    "INPUT.AUGMENTATIONS": ["flip"],
    "INPUT.SCALE.VALUES": [0.75, 1.5],
    "INPUT.SCALE.SAMPLING": "choice",
    "INPUT.ROTATE.DEGREES": 5.0,
    "INPUT.ROTATE.PROB": 0.4,
    "INPUT.BLUR.PROB": 0.3,
    "INPUT.BLUR.SIGMA": [0.5, 0.9],
    "INPUT.BLUR.KERNEL_SIZE": 3,
    "INPUT.COLOR_JITTER.BRIGHTNESS": 0.11,
    "INPUT.COLOR_JITTER.CONTRAST": 0.12,
    "INPUT.COLOR_JITTER.SATURATION": 0.13,
    "INPUT.COLOR_JITTER.HUE": 0.14,
    "INPUT.CROP.PAD": "right_bottom",
    "INPUT.MAPS": ["edges"],
    "DATALOADER.MAX_UNREADABLE": 3,
    "DATASETS.CLASSES": ["a", "b"],
    "DATASETS.PALETTE": [[1, 2, 3], [4, 5, 6]],
    "SOLVER.HEAD_LR_FACTOR": 10.0,
    "SOLVER.EPOCHS": 30,
    "TEST.BOUNDARY.WIDTHS": [1, 3, 5, 9, 15],
    "TEST.BOUNDARY.REPORT_WIDTHS": [3, 9],
    "TEST.BOUNDARY.IGNORE_MODE": "nearest",
    "TEST.BOUNDARY.IGNORE_DISTANCE": 7,
    "TEST.BOUNDARY.TRIMAP": "void",
    "TEST.BOUNDARY.DILATION_RATIO": 0.05,
    "TEST.PRIOR_SHIFT": 0.5,
    "TEST.SAVE_PREDICTIONS": True,
    "TEST.SAVE_IMAGE_COUNTS": True,
    "TEST.BEST_CHECKPOINT_METRIC": "sem_seg/BF@3px",
    "TEST.AUG.SCALES": [0.5, 2.0],
    "TEST.AUG.BASE_SIZE": 640,
    "TEST.AUG.HALF": True,
    "TEST.WINDOW.ENABLED": True,
    "TEST.WINDOW.SIZE": [40, 50],
    "TEST.WINDOW.STRIDE_FRACTION": 0.5,
    "TEST.WINDOW.BATCH": 6,
    "WANDB.ENABLED": True,
    "WANDB.PROJECT": "another",
    "WANDB.NAME": "third",
}
# Read before anything is built: `prepare_config` registers the data sets of these files (tests/data/test_folder.py).
NOT_BUILT = {"DATASETS.SEM_SEG_FILES"}


def leaves(node, prefix=""):
    """{dotted key: value} of a config."""
    found = {}
    for key, value in node.items():
        found.update(leaves(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else {f"{prefix}{key}": value})
    return found


def configured(*options):
    cfg = get_cfg()
    cfg.merge_from_list(list(options))
    return cfg


def describe(thing, seen=()):
    """A comparable description of an object: its type, and what it holds."""
    if thing is None or isinstance(thing, (bool, int, float, str, type, torch.dtype)):
        return thing
    if any(thing is other for other in seen):
        return "seen above"
    seen = (*seen, thing)
    if isinstance(thing, (torch.Tensor, np.ndarray)):
        return tuple(thing.shape), str(thing.dtype), thing.stride() if isinstance(thing, torch.Tensor) else None
    if isinstance(thing, partial):
        return describe([thing.func, thing.args, thing.keywords], seen)
    if isinstance(thing, Mapping):
        return {str(key): describe(value, seen) for key, value in thing.items()}
    if isinstance(thing, (list, tuple, set, frozenset)):
        return [describe(part, seen) for part in thing]
    if hasattr(thing, "__qualname__"):  # functions and methods
        return thing.__qualname__
    return type(thing).__name__, describe(getattr(thing, "__dict__", None), seen)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A registered data set of one record, stand-ins for wandb and for counting its pixels, a folder for outputs."""
    record = {"file_name": "image.png", "sem_seg_file_name": "label.png"}
    DatasetCatalog.register(DATASET, lambda: [record])
    MetadataCatalog.get(DATASET)  # so that there is something to remove
    wandb = ModuleType("wandb")
    wandb.init = lambda **arguments: SimpleNamespace(**arguments)
    monkeypatch.setitem(__import__("sys").modules, "wandb", wandb)
    monkeypatch.setattr(evaluators, "class_pixels", lambda names, num_classes, ignore_value: np.full(num_classes, 100))
    monkeypatch.chdir(tmp_path)
    yield
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


def test_every_key_that_epl_d2_adds_is_listed():
    theirs = get_detectron2_cfg()
    add_deeplab_config(theirs)
    add_pointrend_config(theirs)
    ours = leaves(get_cfg())
    assert set(OTHER) == set(ours) - set(leaves(theirs)) - NOT_BUILT
    assert [key for key, value in OTHER.items() if value == ours[key]] == []


@pytest.mark.parametrize("key", OTHER)
def test_every_key_changes_what_is_built_from_it(key):
    prefix = max((p for p in BUILDERS if key == p or key.startswith(p + ".")), key=len)
    build, options = BUILDERS[prefix]
    usual, changed = configured(*options), configured(*options, key, OTHER[key])
    with torch.device("meta"):
        assert describe(build(usual)) != describe(build(changed))


def test_built_twice_the_description_is_the_same():
    for build, options in BUILDERS.values():
        with torch.device("meta"):
            assert describe(build(configured(*options))) == describe(build(configured(*options))), build
