"""Every configuration key that epl_d2 adds to Detectron2's."""

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.projects.deeplab import add_deeplab_config

__all__ = ["add_epl_config", "get_cfg"]


def get_cfg() -> CN:
    """Detectron2's default configuration with the keys of DeepLab and of epl_d2 added."""
    cfg = get_detectron2_cfg()
    add_epl_config(cfg)
    return cfg


def add_epl_config(cfg: CN) -> None:
    """Add the keys of Detectron2's DeepLab project (where they are missing) and those of epl_d2 to `cfg`, in place."""
    if "POLY_LR_POWER" not in cfg.SOLVER:
        add_deeplab_config(cfg)
        # DeepLab's own default mines the hardest 20% of the pixels; the paper's baseline is plain cross entropy.
        cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = "cross_entropy"
    _add_loss_config(cfg)
    _add_model_config(cfg)
    _add_data_config(cfg)
    _add_solver_config(cfg)
    _add_test_config(cfg)


def _add_loss_config(cfg: CN) -> None:
    cfg.MODEL.EPL = CN()
    # False: the head is its Detectron2 baseline, to the last bit of its losses.
    cfg.MODEL.EPL.ENABLED = True
    # Directions of the potentials: "A" = the 4 axis directions, "B" = the 4 diagonals, "C" = both.
    cfg.MODEL.EPL.SPLITTER = "A"
    # "anisotropic": one ray a direction (the method). "standard": the full box, as in the paper's Table III.
    cfg.MODEL.EPL.CONVOLUTION = "anisotropic"
    # EPL sees the logits at 1/STRIDE of the label size, with its kernels scaled in proportion. 1 = label size.
    cfg.MODEL.EPL.STRIDE = 1
    # EPL's weights are 0 before START_ITER and rise linearly during RAMP_ITERS iterations after it.
    cfg.MODEL.EPL.START_ITER = 0
    cfg.MODEL.EPL.RAMP_ITERS = 0

    cfg.MODEL.EPL.POINT = CN()
    # Factor of the point loss (eq. 3) in the total loss (eq. 5); 0 switches the term off. 0.1 is the paper's text.
    cfg.MODEL.EPL.POINT.WEIGHT = 0.1
    # Kernel size w (odd, at least 3): a ray reaches floor(w / 2) pixels.
    cfg.MODEL.EPL.POINT.KERNEL_SIZE = 7
    # "l1" or "l2" distance between the potentials of label and prediction.
    cfg.MODEL.EPL.POINT.NORM = "l2"

    cfg.MODEL.EPL.LINE = CN()
    # Factor of the equipotential line loss (eq. 4); 0 switches the term off. 0.01 is the paper's text.
    cfg.MODEL.EPL.LINE.WEIGHT = 0.01
    cfg.MODEL.EPL.LINE.KERNEL_SIZE = 7
    # Even, positive exponent of the line activation exp(-(E - tau)^mu).
    cfg.MODEL.EPL.LINE.MU = 10
    # "official": what the authors' released code computes. "contour": Algorithm 1 of the paper with its evident intent.
    cfg.MODEL.EPL.LINE.FORMULATION = "official"


def _add_model_config(cfg: CN) -> None:
    # Factor of the auxiliary branch's cross entropy, in the models that have such a branch.
    cfg.MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT = 0.4

    cfg.MODEL.MOBILENETV2 = CN()
    # Features to return, among "res1" (stride 2) ... "res5" (stride OUTPUT_STRIDE).
    cfg.MODEL.MOBILENETV2.OUT_FEATURES = ["res2", "res5"]
    # Stride of "res5": 8, 16 or 32; the later stages are dilated to reach it.
    cfg.MODEL.MOBILENETV2.OUTPUT_STRIDE = 16
    # "BN", "SyncBN", "FrozenBN", ...
    cfg.MODEL.MOBILENETV2.NORM = "SyncBN"
    # True: zero padding before the 1x1 expansion, as in the reference implementation of the paper's VOC models.
    # False: padding at the depthwise convolution, as in torchvision, whose weights were trained so.
    cfg.MODEL.MOBILENETV2.PAD_BEFORE_EXPANSION = True


def _add_data_config(cfg: CN) -> None:
    # Detectron2's defaults are made for detection: crops relative to the image, and test images resized to 800 pixels.
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [512, 512]
    cfg.INPUT.MIN_SIZE_TEST = 0

    # Training augmentations in order, among "scale", "shortest_edge", "rotate", "blur", "flip", "crop" and
    # "color_jitter". The default is the paper's; "flip" reads RANDOM_FLIP, "shortest_edge" MIN_SIZE_TRAIN, "crop" CROP.
    cfg.INPUT.AUGMENTATIONS = ["scale", "rotate", "blur", "flip", "crop"]
    cfg.INPUT.SCALE = CN()
    # "uniform": the range of the factor. "choice": the factors to choose from.
    cfg.INPUT.SCALE.VALUES = [0.5, 2.0]
    cfg.INPUT.SCALE.SAMPLING = "uniform"
    cfg.INPUT.ROTATE = CN()
    # The angle is uniform in [-DEGREES, DEGREES].
    cfg.INPUT.ROTATE.DEGREES = 10.0
    cfg.INPUT.ROTATE.PROB = 0.5
    cfg.INPUT.BLUR = CN()
    cfg.INPUT.BLUR.PROB = 0.5
    # Standard deviation in pixels, uniform in the range; 1.1 is that of OpenCV's 5 x 5 kernel.
    cfg.INPUT.BLUR.SIGMA = [1.1, 1.1]
    # Odd width of the kernel in pixels; 0 derives it from the standard deviation.
    cfg.INPUT.BLUR.KERNEL_SIZE = 5
    cfg.INPUT.COLOR_JITTER = CN()
    # Factors are uniform in [1 - x, 1 + x].
    cfg.INPUT.COLOR_JITTER.BRIGHTNESS = 0.25
    cfg.INPUT.COLOR_JITTER.CONTRAST = 0.25
    cfg.INPUT.COLOR_JITTER.SATURATION = 0.25
    # The shift is uniform in [-x, x] of the colour circle.
    cfg.INPUT.COLOR_JITTER.HUE = 0.25
    # Where an image smaller than the crop is placed: "center" (semseg) or "right_bottom" (padding right and below).
    cfg.INPUT.CROP.PAD = "center"

    # Maps that the loader's workers compute for the model from image and label: names of epl_d2/data/maps.py.
    cfg.INPUT.MAPS = []

    # Unreadable training files that are skipped with a warning before the run stops; 0 stops at the first.
    cfg.DATALOADER.MAX_UNREADABLE = 0
    # YAML files that describe your own data sets (docs/data.md).
    cfg.DATASETS.SEM_SEG_FILES = []


def _add_solver_config(cfg: CN) -> None:
    # Learning rate of everything below `sem_seg_head.` as a multiple of BASE_LR (10 in the reference recipes).
    cfg.SOLVER.HEAD_LR_FACTOR = 1.0


def _add_test_config(cfg: CN) -> None:
    cfg.TEST.BOUNDARY = CN()
    # Pixel widths at which boundary F, trimap and boundary IoU are accumulated (all of them go to the curves).
    cfg.TEST.BOUNDARY.WIDTHS = list(range(1, 21))
    # Widths that appear among the printed results; a subset of WIDTHS.
    cfg.TEST.BOUNDARY.REPORT_WIDTHS = [1, 3, 5, 9]
    # "ignore": boundary pixels beside ignored pixels do not count. "zero": the habit of GSCNN's evaluation.
    cfg.TEST.BOUNDARY.IGNORE_MODE = "ignore"
    # "label-change": band around every change of label. "void": band around VOC's void contours.
    cfg.TEST.BOUNDARY.TRIMAP = "label-change"
    # Keep the predictions of every evaluation as label-id PNGs below OUTPUT_DIR/inference.
    cfg.TEST.SAVE_PREDICTIONS = False
    # Metric whose best value is kept as model_best.pth, e.g. "sem_seg/mIoU" or "sem_seg/BF@3px"; "" keeps none.
    cfg.TEST.BEST_CHECKPOINT_METRIC = ""
