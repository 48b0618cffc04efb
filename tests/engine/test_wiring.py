"""Every key that epl_d2 adds reaches what is built from it, and arrives there under the right name."""

from collections.abc import Mapping
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import hooks
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_sem_seg_head
from detectron2.projects.deeplab import add_deeplab_config
from torch import nn

from epl_d2 import get_cfg, losses
from epl_d2.data.build import build_sem_seg_train_loader
from epl_d2.data.dataset_mapper import SemSegDatasetMapper
from epl_d2.engine import Trainer
from epl_d2.engine.training_pictures import TrainingPictures
from epl_d2.engine.writers import WandbWriter
from epl_d2.modeling import EPLSemanticSegmentor, with_test_time_protocol
from epl_d2.modeling.losses import build_criterion, build_epl_loss, build_extra_losses

DATASET = "wiring"
IGNORE = "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"
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


WITH_ALL_STEPS = ["INPUT.AUGMENTATIONS", ["scale", "rotate", "blur", "flip", "crop", "color_jitter"]]
EVERY_EXTRA_LOSS = [
    part
    for name in ("GENERALIZED_DICE", "BOUNDARY", "ACTIVE_BOUNDARY", "LOVASZ")
    for part in (f"MODEL.EXTRA_LOSSES.{name}.WEIGHT", 1.0)
]
PROTOCOL = ["TEST.AUG.ENABLED", True, "TEST.WINDOW.ENABLED", True]
# Prefix of keys -> what is built from them, and the options that switch it on. The longest prefix counts.
BUILDERS = {
    "MODEL.EPL": (epl, []),
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
    "SOLVER": (optimizer, []),
    "TEST.BOUNDARY": (evaluator, []),
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
    "MODEL.EPL.STRIDE": 2,
    "MODEL.EPL.START_ITER": 30,
    "MODEL.EPL.RAMP_ITERS": 40,
    "MODEL.EPL.POINT.WEIGHT": 0.3,
    "MODEL.EPL.POINT.KERNEL_SIZE": 13,
    "MODEL.EPL.POINT.NORM": "l1",
    "MODEL.EPL.LINE.WEIGHT": 0.4,
    "MODEL.EPL.LINE.KERNEL_SIZE": 9,
    "MODEL.EPL.LINE.MU": 6,
    "MODEL.EPL.LINE.FORMULATION": "official",
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
    "SOLVER.HEAD_LR_FACTOR": 10.0,
    "TEST.BOUNDARY.WIDTHS": [1, 3, 5, 9, 15],
    "TEST.BOUNDARY.REPORT_WIDTHS": [3, 9],
    "TEST.BOUNDARY.IGNORE_MODE": "zero",
    "TEST.BOUNDARY.TRIMAP": "void",
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


def configured_as_other(prefix, *options):
    """A config whose keys below the prefix all have their other value, but for the options."""
    return configured(*(part for item in OTHER.items() if item[0].startswith(prefix + ".") for part in item), *options)


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
    """A registered data set of one record, a stand-in for wandb, and a folder for outputs."""
    record = {"file_name": "image.png", "sem_seg_file_name": "label.png"}
    DatasetCatalog.register(DATASET, lambda: [record])
    MetadataCatalog.get(DATASET)  # so that there is something to remove
    wandb = ModuleType("wandb")
    wandb.init = lambda **arguments: SimpleNamespace(**arguments)
    monkeypatch.setitem(__import__("sys").modules, "wandb", wandb)
    monkeypatch.chdir(tmp_path)
    yield
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


def test_every_key_that_epl_d2_adds_is_listed():
    theirs = get_detectron2_cfg()
    add_deeplab_config(theirs)
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


def attribute(thing, path):
    for name in path.split("."):
        thing = thing[name] if isinstance(thing, Mapping) else getattr(thing, name)
    return list(thing) if isinstance(thing, tuple) else thing


def test_epl_holds_its_keys_under_their_names():
    loss = build_epl_loss(configured_as_other("MODEL.EPL", "MODEL.EPL.ENABLED", True, IGNORE, 254))
    assert {name: value for name, value in vars(loss).items() if not name.startswith("_") and name != "training"} == {
        "splitter": "C",
        "convolution": "standard",
        "stride": 2,
        "start_iter": 30,
        "ramp_iters": 40,
        "point_weight": 0.3,
        "point_kernel_size": 7,  # the odd number nearest to 13 / 2
        "norm": "l1",
        "line_weight": 0.4,
        "line_kernel_size": 5,  # of 9 / 2
        "mu": 6,
        "formulation": "official",
        "ignore_value": 254,
    }


POINT = {"kernel_size": 13, "splitter": "C", "norm": "l1"}
LINE = {"kernel_size": 9, "splitter": "C", "mu": 6, "formulation": "official"}


@pytest.fixture(scope="module")
def scene():
    """Logits [2, 4, 24, 28] and labels of them, some of which are 254."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (2, 3, 4), generator=generator).repeat_interleave(8, 1).repeat_interleave(7, 2)
    labels[:, :2, 3:20] = 254
    return torch.randn(2, 4, 24, 28, generator=generator), labels


@pytest.mark.parametrize("convolution", ["standard", "anisotropic"])
def test_epl_hands_every_setting_to_both_losses(scene, convolution):
    options = ["ENABLED", True, "STRIDE", 1, "CONVOLUTION", convolution]
    cfg = configured_as_other("MODEL.EPL", IGNORE, 254)
    cfg.MODEL.EPL.merge_from_list(options)
    found = build_epl_loss(cfg)(*scene)
    common = {"convolution": convolution, "ignore_value": 254}
    torch.testing.assert_close(found["loss_epl_point"], 0.3 * losses.point_loss(*scene, **POINT, **common))
    torch.testing.assert_close(found["loss_epl_line"], 0.4 * losses.line_loss(*scene, **LINE, **common))


@pytest.mark.parametrize(("loss", "settings"), [(losses.point_loss, POINT), (losses.line_loss, LINE)])
def test_no_setting_could_be_left_out_of_them_unnoticed(scene, loss, settings):
    value = loss(*scene, ignore_value=254, **settings)
    for name in settings:
        rest = {other: settings[other] for other in settings if other != name}
        assert not torch.allclose(loss(*scene, ignore_value=254, **rest), value), name
    assert not torch.allclose(loss(*scene, ignore_value=254, convolution="standard", **settings), value)
    with pytest.raises(ValueError, match="254"):
        loss(*scene, **settings)


def test_extra_losses_hold_their_keys_under_their_names():
    found = build_extra_losses(configured_as_other("MODEL.EXTRA_LOSSES", IGNORE, 254)).losses
    schedules = {loss.name: (loss.weight, loss.start_iter, loss.ramp_iters, loss.map_name) for loss in found}
    assert schedules == {
        "loss_generalized_dice": (0.21, 21, 211, None),
        "loss_boundary": (0.22, 22, 222, "signed_distance"),
        "loss_active_boundary": (0.23, 23, 233, "contour_distance"),
        "loss_lovasz": (0.24, 24, 244, None),
    }
    assert {loss.name: (loss.function.func, loss.function.keywords) for loss in found} == {
        "loss_generalized_dice": (losses.generalized_dice_loss, {"ignore_value": 254}),
        "loss_boundary": (losses.boundary_loss, {"ignore_value": 254}),
        "loss_active_boundary": (
            losses.active_boundary_loss,
            {"ignore_value": 254, "max_distance": 7.0, "max_fraction": 0.2, "label_smoothing": 0.1},
        ),
        "loss_lovasz": (losses.lovasz_softmax_loss, {"ignore_value": 254, "per_image": True}),
    }


def hardest_fifth(logits, labels):
    costs = F.cross_entropy(logits, labels, ignore_index=254, reduction="none").flatten()
    return costs.sort(descending=True).values[: int(0.2 * len(costs))].mean()


def weighted_by_image(logits, labels):
    """Class c of an image weighs 2 - its share of the image's pixels that count."""
    found = []
    for one, target in zip(logits, labels, strict=True):
        counts = target[target != 254].bincount(minlength=4)
        weight = 2 - counts / counts.sum()
        found.append(F.cross_entropy(one[None], target[None], weight, ignore_index=254))
    return sum(found) / len(found)


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("cross_entropy", lambda x, y: F.cross_entropy(x, y, ignore_index=254)),
        ("hard_pixel_mining", hardest_fifth),
        ("image_weighted", weighted_by_image),
        ("ohem", lambda x, y: losses.ohem_cross_entropy(x, y, threshold=0.3, min_kept=400, factor=2, ignore_value=254)),
        ("label_relaxation", lambda x, y: losses.label_relaxation_loss(x, y, border=3, ignore_value=254)),
    ],
)
def test_criteria_get_their_settings(scene, loss_type, expected):
    ohem = ["MODEL.SEM_SEG_HEAD.OHEM.THRESHOLD", 0.3, "MODEL.SEM_SEG_HEAD.OHEM.MIN_KEPT", 400]
    cfg = configured_as_other("MODEL.SEM_SEG_HEAD", *ohem, "MODEL.SEM_SEG_HEAD.LOSS_TYPE", loss_type, IGNORE, 254)
    torch.testing.assert_close(build_criterion(cfg)(*scene), expected(*scene))


def test_the_evaluator_holds_its_keys_under_their_names():
    several = ["DATASETS.TEST", (DATASET, "another"), "OUTPUT_DIR", "out"]
    cfg = configured_as_other("TEST", *several, IGNORE, 254, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 7)
    built = Trainer.build_evaluator(cfg, DATASET)
    expected = {
        "_statistics.num_classes": 7,
        "_statistics.ignore_value": 254,
        "_statistics.widths": [1, 3, 5, 9, 15],
        "_statistics.ignore_mode": "zero",
        "_statistics.trimap": "void",
        "_report_widths": [3, 9],
        "_save_predictions": True,
        "_save_image_counts": True,
        "_output_dir": f"out/inference/{DATASET}",
        "_dataset_name": DATASET,
    }
    assert {path: attribute(built, path) for path in expected} == expected
    cfg.DATASETS.TEST = (DATASET,)
    assert Trainer.build_evaluator(cfg, DATASET)._output_dir == "out/inference"


def test_the_protocol_holds_its_keys_under_their_names():
    cfg = configured_as_other("TEST", "TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", False)
    built = protocol(cfg)
    expected = {
        "scales": [0.5, 2.0],
        "base_size": 640,
        "protocol.size": [40, 50],
        "protocol.stride_fraction": 0.5,
        "protocol.batch": 6,
        "protocol.flip": False,
        "protocol.dtype": torch.float16,
    }
    assert {path: attribute(built, path) for path in expected} == expected
    cfg.TEST.merge_from_list(["AUG.FLIP", True, "WINDOW.SIZE", []])
    cfg.INPUT.CROP.SIZE = [30, 20]
    assert protocol(cfg).protocol.flip and protocol(cfg).protocol.size == (30, 20)
    cfg.TEST.AUG.ENABLED = False
    assert protocol(cfg).scales == (1.0,) and protocol(cfg).base_size == 0 and not protocol(cfg).protocol.flip
    cfg.TEST.merge_from_list(["AUG.ENABLED", True, "WINDOW.ENABLED", False])
    assert protocol(cfg).protocol.size is None


SOLVER = {
    "BASE_LR": 0.02,
    "MOMENTUM": 0.8,
    "NESTEROV": True,
    "WEIGHT_DECAY": 0.003,
    "WEIGHT_DECAY_NORM": 0.004,
    "WEIGHT_DECAY_BIAS": 0.005,
    "BIAS_LR_FACTOR": 2.0,
    "HEAD_LR_FACTOR": 10.0,
    "MAX_ITER": 500,
    "CHECKPOINT_PERIOD": 70,
    "LR_SCHEDULER_NAME": "WarmupPolyLR",
    "POLY_LR_POWER": 0.7,
    "POLY_LR_CONSTANT_ENDING": 0.05,
    "WARMUP_FACTOR": 0.5,
    "WARMUP_ITERS": 11,
    "WARMUP_METHOD": "constant",
}


@pytest.fixture(scope="module")
def solver_config():
    options = [part for key, value in SOLVER.items() for part in (f"SOLVER.{key}", value)]
    return configured(*options, "TEST.EVAL_PERIOD", 30, "TEST.BEST_CHECKPOINT_METRIC", "sem_seg/mIoU", "VIS_PERIOD", 9)


def test_the_optimizer_holds_the_solvers_keys(solver_config):
    model = TwoParts()
    built = Trainer.build_optimizer(solver_config, model)
    groups = {id(parameter): group for group in built.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        part, layer, kind = name.split(".")
        # Detectron2: a bias has its own factor and decay, also that of a norm.
        rate = 0.02 * (10 if part == "sem_seg_head" else 1) * (2 if kind == "bias" else 1)
        decay = 0.005 if kind == "bias" else 0.004 if layer == "1" else 0.003
        assert (group["lr"], group["weight_decay"]) == (pytest.approx(rate), decay), name
        assert (group["momentum"], group["nesterov"]) == (0.8, True), name


@pytest.mark.parametrize("clip_type", ["value", "norm"])
def test_gradients_are_clipped_as_the_solver_says(clip_type):
    clip = ["ENABLED", True, "CLIP_TYPE", clip_type, "CLIP_VALUE", 0.5, "NORM_TYPE", 1.0]
    cfg = configured("SOLVER.BASE_LR", 1.0, "SOLVER.MOMENTUM", 0.0)
    cfg.SOLVER.CLIP_GRADIENTS.merge_from_list(clip)
    model = nn.Linear(2, 1, bias=False)
    optimizer, before = Trainer.build_optimizer(cfg, model), model.weight.detach().clone()
    model.weight.grad = torch.tensor([[3.0, 1.0]])
    optimizer.step()
    step = [0.5, 0.5] if clip_type == "value" else [0.375, 0.125]
    torch.testing.assert_close(before - model.weight.detach(), torch.tensor([step]), atol=1e-3, rtol=0)


def test_the_scheduler_holds_the_solvers_keys(solver_config):
    built = Trainer.build_lr_scheduler(solver_config, torch.optim.SGD(TwoParts().parameters(), lr=1.0))
    expected = {
        "max_iters": 500,
        "power": 0.7,
        "constant_ending": 0.05,
        "warmup_factor": 0.5,
        "warmup_iters": 11,
        "warmup_method": "constant",
    }
    assert {name: getattr(built, name) for name in expected} == expected


def test_the_trainer_holds_its_periods(solver_config, tmp_path):
    cfg = solver_config.clone()
    cfg.OUTPUT_DIR, cfg.DATASETS.TRAIN = str(tmp_path / "out"), (DATASET,)
    built = TinyTrainer(cfg)
    by_type = {base: [hook for hook in built._hooks if isinstance(hook, base)] for base in KINDS_OF_HOOKS}
    assert {base.__name__: len(found) for base, found in by_type.items()} == {b.__name__: 1 for b in by_type}
    one = {base: found[0] for base, found in by_type.items()}
    assert built.max_iter == 500 and built.checkpointer.save_dir == str(tmp_path / "out")
    assert one[hooks.PeriodicCheckpointer].period == 70
    assert one[hooks.EvalHook]._period == 30
    assert one[hooks.BestCheckpointer]._period == 30 and one[hooks.BestCheckpointer]._val_metric == "sem_seg/mIoU"
    assert one[hooks.BestCheckpointer]._checkpointer is built.checkpointer
    assert one[TrainingPictures]._period == 9
    cfg.VIS_PERIOD, cfg.TEST.BEST_CHECKPOINT_METRIC = 0, ""
    kinds = {type(hook) for hook in TinyTrainer(cfg)._hooks}
    assert not any(issubclass(kind, (TrainingPictures, hooks.BestCheckpointer)) for kind in kinds)


KINDS_OF_HOOKS = (hooks.PeriodicCheckpointer, hooks.EvalHook, hooks.BestCheckpointer, TrainingPictures)


def test_pictures_are_drawn_with_the_settings_of_the_losses():
    cfg = configured_as_other("MODEL.EPL", IGNORE, 254, "VIS_PERIOD", 9, "DATASETS.TRAIN", (DATASET,))
    MetadataCatalog.get(DATASET).stuff_classes = ["a", "b"]
    MetadataCatalog.get(DATASET).stuff_colors = [(1, 2, 3), (4, 5, 6)]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    settings = TrainingPictures(cfg, TwoParts())._drawing
    expected = {"kernel_size": 13, "splitter": "C", "convolution": "standard", "ignore_value": 254}
    assert {name: settings[name] for name in expected} == expected
    assert list(settings["classes"]) == ["a", "b"]


def test_a_run_of_wandb_gets_its_keys(tmp_path):
    cfg = configured_as_other("WANDB", "OUTPUT_DIR", str(tmp_path))
    (run,) = writers(cfg)
    assert (run.project, run.name, run.dir) == ("another", "third", str(tmp_path))
    assert run.config["WANDB"] == {"ENABLED": True, "PROJECT": "another", "NAME": "third"}
    assert leaves(cfg) == {key: run_value(run.config, key) for key in leaves(cfg)}


def run_value(config, key):
    for name in key.split("."):
        config = config[name]
    return config
