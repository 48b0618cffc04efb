"""The one place that checks a config against the data and the evaluation it names, before anything is trained.

What a model or the loader check themselves when they are built, which is before the first iteration too, is not here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.layers import get_norm
from detectron2.modeling import META_ARCH_REGISTRY, ROI_MASK_HEAD_REGISTRY, SEM_SEG_HEADS_REGISTRY
from detectron2.projects.deeplab import DeepLabV3Head, DeepLabV3PlusHead

from epl_d2.data.dataset_check import check_data, shared_images
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.report import check_report_widths, flat_scores
from epl_d2.modeling import EPLHeadMixin, EPLMaskRCNNConvUpsampleHead, EPLPointRendMaskHead, EPLSemanticSegmentor

from .evaluators import class_offsets, instance_score_names
from .setup import norm_keys, value_at

__all__ = ["check_config", "check_datasets", "require_own_head", "require_own_segmentor", "require_pixel_labels"]

logger = logging.getLogger(__name__)


def check_config(cfg: CfgNode, *, training: bool, files: bool = True) -> None:
    """Raise an error with the key, what it is and what it may be, or return.

    Args:
        cfg: the config of a run.
        training: whether the run trains, or evaluates alone.
        files: also look at the files of the data sets; without, only at what is registered.

    Raises:
        FileNotFoundError, ValueError: naming the key or file that does not fit.
    """
    _check_values(cfg, training)
    _check_norms(cfg)
    if training:
        _check_losses(cfg)
    check_datasets(cfg, training=training, files=files)
    names = _check_evaluation(cfg)
    _check_architecture(cfg)
    if training:
        _check_best_metric(cfg, names)
    _check_prior_shift(cfg, files)


def require_pixel_labels(cfg: CfgNode, purpose: str) -> None:
    """Refuse a model of instances where only labels of pixels will do.

    Args:
        cfg: of the model.
        purpose: what is refused, as the beginning of the message.

    Raises:
        ValueError: MODEL.MASK_ON is True.
    """
    if cfg.MODEL.MASK_ON:
        raise ValueError(f"{purpose} a model that labels every pixel; this one finds instances (MODEL.MASK_ON True)")


def require_own_head(cfg: CfgNode, purpose: str) -> None:
    """Refuse a semantic head whose losses are Detectron2's.

    Args:
        cfg: of a model that labels every pixel.
        purpose: what needs it, as the middle of the message.

    Raises:
        ValueError: MODEL.SEM_SEG_HEAD.NAME is none of this project's heads.
    """
    name = cfg.MODEL.SEM_SEG_HEAD.NAME
    if not _is_a(SEM_SEG_HEADS_REGISTRY.get(name), EPLHeadMixin):
        raise ValueError(f"MODEL.SEM_SEG_HEAD.NAME is {name!r}; {purpose} one of {', '.join(_own_heads())}")


def require_own_segmentor(cfg: CfgNode, purpose: str) -> None:
    """Refuse a meta-architecture that is no `EPLSemanticSegmentor`.

    Args:
        cfg: of the model.
        purpose: what needs it, as the middle of the message.

    Raises:
        ValueError: MODEL.META_ARCHITECTURE is another.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if not _is_a(META_ARCH_REGISTRY.get(name), EPLSemanticSegmentor):
        raise ValueError(f"MODEL.META_ARCHITECTURE is {name!r}; {purpose} an EPLSemanticSegmentor")


def check_datasets(cfg: CfgNode, *, training: bool, files: bool = True) -> None:
    """Check the data sets of `cfg` before the model is built; warn of images that are trained on and evaluated with.

    Args:
        cfg: the config of a run.
        training: whether DATASETS.TRAIN is used.
        files: also look at their files; without, only at what is registered.

    Raises:
        FileNotFoundError, ValueError: naming the file or key that does not fit.
    """
    key = "DATASETS.TRAIN" if training else "DATASETS.TEST"
    if not value_at(cfg, key):
        raise ValueError(f"{key} is empty; it must name a data set")
    for names, needs_labels in ((cfg.DATASETS.TRAIN if training else (), True), (cfg.DATASETS.TEST, False)):
        for name in names:
            check_data(cfg, name, needs_labels=needs_labels, files=files)
    if files and training and not cfg.MODEL.MASK_ON:  # files of instances are large, and take long to read once more
        for name in cfg.DATASETS.TRAIN:
            for sentence in shared_images(name, [test for test in cfg.DATASETS.TEST if test != name]):
                logger.warning(sentence)


def _is_count(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_factor(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_size(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_count(1), value))


def _is_triple(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(map(_is_number, value))


# Key, whether a value may stand there, what it may be.
_ALWAYS = (
    ("MODEL.PIXEL_MEAN", _is_triple, "three numbers, one a channel"),
    ("MODEL.PIXEL_STD", lambda value: _is_triple(value) and min(value) > 0, "three positive numbers, one a channel"),
    ("INPUT.FORMAT", lambda value: value in ("RGB", "BGR"), '"RGB" or "BGR"'),
    ("DATALOADER.NUM_WORKERS", _is_count(0), "a number of processes, or 0 for none"),
    ("TEST.PRIOR_SHIFT", _is_number, "a finite number, or 0 for none"),
    *(
        (f"MODEL.{key}", _is_count(1), "a positive number of channels")
        for key in ("SEM_SEG_HEAD.CONVS_DIM", "SEM_SEG_HEAD.AUX_CONVS_DIM", "PSP.CHANNELS", "PSA.CHANNELS")
    ),
)
_TRAINING = (
    ("SOLVER.MAX_ITER", _is_count(1), "a positive number of iterations"),
    ("SOLVER.CHECKPOINT_PERIOD", _is_count(1), "a positive number of iterations"),
    ("SOLVER.IMS_PER_BATCH", _is_count(1), "a positive number of images"),
    ("SOLVER.BASE_LR", _is_positive, "a positive number"),
    # A negative one would train away from the labels.
    *(
        (key, _is_factor, "a finite number of at least 0")
        for key in (
            *("SOLVER.HEAD_LR_FACTOR", "SOLVER.BIAS_LR_FACTOR"),
            *("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT"),
            *("MODEL.GSCNN.EDGE_WEIGHT", "MODEL.GSCNN.ATTENTION_WEIGHT", "MODEL.GSCNN.DUAL_TASK_WEIGHT"),
        )
    ),
    ("MODEL.SEM_SEG_HEAD.DROPOUT", lambda value: _is_factor(value) and value < 1, "a share in [0, 1)"),
    ("SOLVER.WARMUP_ITERS", _is_count(0), "a number of iterations, or 0 for none"),
    ("TEST.EVAL_PERIOD", _is_count(0), "a number of iterations, or 0 for one evaluation at the end"),
    ("VIS_PERIOD", _is_count(0), "a number of iterations, or 0 for no pictures"),
)
_MASKS = (
    ("MODEL.ROI_HEADS.NUM_CLASSES", _is_count(1), "a positive number of classes"),
    ("INPUT.MASK_FORMAT", lambda value: value in ("polygon", "bitmask"), '"polygon" or "bitmask"'),
    (
        "TEST.BOUNDARY.DILATION_RATIO",
        lambda value: _is_positive(value) and value <= 1,
        "a part of the image's diagonal in (0, 1]",
    ),
)
_SCALES = (
    ("TEST.AUG.SCALES", lambda value: value and all(_is_positive(v) for v in value), "one or more positive numbers"),
    ("TEST.AUG.BASE_SIZE", _is_count(0), "pixels, or 0 for the image's own size"),
)
_WINDOWS = (
    (
        "TEST.WINDOW.SIZE",
        lambda value: not value or _is_size(value),
        "height and width in pixels, or [] for the crop's",
    ),
    ("TEST.WINDOW.STRIDE_FRACTION", lambda value: _is_positive(value) and value <= 1, "a number in (0, 1]"),
    ("TEST.WINDOW.BATCH", _is_count(1), "a positive number of windows"),
)
_WINDOWS_OF_THE_CROP = (
    (
        "INPUT.CROP.TYPE",
        lambda value: value == "absolute",
        '"absolute" for windows of the size of the crop (TEST.WINDOW.SIZE [])',
    ),
    ("INPUT.CROP.SIZE", _is_size, "height and width in pixels, for the windows as well (TEST.WINDOW.SIZE [])"),
)


def _check_values(cfg: CfgNode, training: bool) -> None:
    rules = [*_ALWAYS, *(_TRAINING if training else ())]
    rules += _MASKS if cfg.MODEL.MASK_ON else ()
    rules += _SCALES if cfg.TEST.AUG.ENABLED else ()
    rules += _WINDOWS if cfg.TEST.WINDOW.ENABLED else ()
    rules += _WINDOWS_OF_THE_CROP if cfg.TEST.WINDOW.ENABLED and not cfg.TEST.WINDOW.SIZE else ()
    if training and cfg.INPUT.CROP.ENABLED and cfg.INPUT.CROP.TYPE == "absolute":
        rules.append(("INPUT.CROP.SIZE", _is_size, "height and width in pixels"))
    for key, fits, expected in rules:
        value = value_at(cfg, key)
        if not fits(value):
            raise ValueError(f"{key} is {value!r}, expected {expected}")


def _check_norms(cfg: CfgNode) -> None:
    for path, key in norm_keys(cfg.MODEL, "MODEL"):
        norm = value_at(cfg, path)[key]
        try:
            get_norm(norm, 64)
        except (KeyError, TypeError):
            raise ValueError(f"{path}.{key} is {norm!r}; no norm of Detectron2 has that name") from None


def _check_losses(cfg: CfgNode) -> None:
    """Refuse losses that no head of the model computes: it would train without them, in silence."""
    model = cfg.MODEL
    wanted = _weights(model.EXTRA_LOSSES, "MODEL.EXTRA_LOSSES")
    head, reason = None, _no_semantic_head(cfg)
    if _labels_pixels(cfg):
        head = SEM_SEG_HEADS_REGISTRY.get(model.SEM_SEG_HEAD.NAME)
        reason = _other_head("MODEL.SEM_SEG_HEAD.NAME", model.SEM_SEG_HEAD.NAME, _own_heads())
        wanted |= _weights(model.EPL, "MODEL.EPL") if model.EPL.ENABLED else {}
    # Detectron2's DeepLab has criteria of its own under this key.
    if model.SEM_SEG_HEAD.LOSS_TYPE != "cross_entropy" and not _is_a(head, (DeepLabV3Head, DeepLabV3PlusHead)):
        wanted["MODEL.SEM_SEG_HEAD.LOSS_TYPE"] = model.SEM_SEG_HEAD.LOSS_TYPE
    if not _is_a(head, EPLHeadMixin):
        _refuse(wanted, reason)
    if model.MASK_ON and model.EPL.ENABLED:
        name = model.ROI_MASK_HEAD.NAME
        # One of the user's own may take EPL from `build_mask_epl_loss`.
        if ROI_MASK_HEAD_REGISTRY.get(name).__module__.startswith("detectron2."):
            ours = [EPLMaskRCNNConvUpsampleHead.__name__, EPLPointRendMaskHead.__name__]
            _refuse(_weights(model.EPL.MASK, "MODEL.EPL.MASK"), _other_head("MODEL.ROI_MASK_HEAD.NAME", name, ours))


def _weights(losses: CfgNode, path: str) -> dict[str, Any]:
    """The weights above 0 of the losses of a node, by their keys."""
    nodes = ((name, node) for name, node in losses.items() if isinstance(node, CfgNode) and "WEIGHT" in node)
    return {f"{path}.{name}.WEIGHT": node.WEIGHT for name, node in nodes if node.WEIGHT > 0}


def _own_heads() -> list[str]:
    return [name for name, registered in SEM_SEG_HEADS_REGISTRY if _is_a(registered, EPLHeadMixin)]


def _other_head(key: str, name: str, ours: Sequence[str]) -> str:
    return f"{key} is {name!r}, which does not compute it; it may be {', '.join(ours)}"


def _refuse(values: Mapping[str, Any], reason: str) -> None:
    for key, value in values.items():
        instead = ", or MODEL.EPL.ENABLED False" if key.startswith("MODEL.EPL.") else ""
        raise ValueError(f"{key} is {value!r}, but {reason}{instead}")


def _is_a(registered: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(registered, type) and issubclass(registered, kinds)


def _check_evaluation(cfg: CfgNode) -> set[str]:
    """The names of the scores that an evaluation gives, as Detectron2 stores them."""
    head, boundary = cfg.MODEL.SEM_SEG_HEAD, cfg.TEST.BOUNDARY
    try:
        statistics = BoundaryStatistics(
            head.NUM_CLASSES,
            boundary.WIDTHS,
            head.IGNORE_VALUE,
            boundary.IGNORE_MODE,
            boundary.TRIMAP,
            boundary.IGNORE_DISTANCE,
        )
        report_widths = check_report_widths(boundary.REPORT_WIDTHS, statistics.widths)
    except (TypeError, ValueError) as error:
        keys = "WIDTHS, REPORT_WIDTHS, IGNORE_MODE, IGNORE_DISTANCE, TRIMAP"
        raise ValueError(f"TEST.BOUNDARY ({keys}): {error}") from error
    names = set()
    for dataset in cfg.DATASETS.TEST:
        classes = MetadataCatalog.get(dataset).get("stuff_classes") or [str(k) for k in range(head.NUM_CLASSES)]
        prefix = f"{dataset}/" if len(cfg.DATASETS.TEST) > 1 else ""
        names |= {prefix + name for name in (instance_score_names(cfg, dataset) if cfg.MODEL.MASK_ON else ())}
        if _labels_pixels(cfg):
            names |= {f"{prefix}sem_seg/{score}" for score in flat_scores(statistics, classes, report_widths)}
    return names


def _labels_pixels(cfg: CfgNode) -> bool:
    """Whether the model has a semantic head: all have one but those that find instances alone."""
    return not cfg.MODEL.MASK_ON or cfg.MODEL.META_ARCHITECTURE == "PanopticFPN"


def _no_semantic_head(cfg: CfgNode) -> str:
    return (
        f"the model has no semantic head (MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}, MODEL.MASK_ON "
        f"{cfg.MODEL.MASK_ON})"
    )


def _check_prior_shift(cfg: CfgNode, files: bool) -> None:
    """Last of all, as it reads the labels that the evaluations will need (`class_pixels` keeps what it has counted)."""
    if cfg.TEST.PRIOR_SHIFT == 0:
        return
    if not _labels_pixels(cfg):
        raise ValueError(f"TEST.PRIOR_SHIFT is {cfg.TEST.PRIOR_SHIFT}, but {_no_semantic_head(cfg)}")
    for dataset in cfg.DATASETS.TEST if files else ():
        class_offsets(cfg, dataset)


def _check_architecture(cfg: CfgNode) -> None:
    if cfg.TEST.AUG.ENABLED or cfg.TEST.WINDOW.ENABLED:
        require_own_segmentor(cfg, "TEST.AUG and TEST.WINDOW need")


def _check_best_metric(cfg: CfgNode, names: set[str]) -> None:
    metric = cfg.TEST.BEST_CHECKPOINT_METRIC
    if metric and metric not in names:
        main = sorted(name for name in names if "-" not in name) or ["none, as DATASETS.TEST is empty"]
        raise ValueError(
            f"TEST.BEST_CHECKPOINT_METRIC is {metric!r}, which no evaluation computes; it may be one of the scores of "
            f'a class, as "sem_seg/IoU-CLASS", or {", ".join(main)}'
        )
