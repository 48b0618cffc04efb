"""Every configuration key that epl_d2 adds to Detectron2's."""

import os
from typing import IO, Any

import detectron2
import yaml
from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config

from epl_d2.losses import defaults

from .registration import register

__all__ = ["MAP_OF_LOSS", "EPLCfgNode", "add_epl_config", "get_cfg"]

# Before the name of a config of Detectron2's model zoo, where a config names its base.
MODEL_ZOO = "model_zoo://"
# `detectron2.model_zoo` itself needs pkg_resources, which setuptools no longer has.
_ZOO_CONFIGS = os.path.join(os.path.dirname(detectron2.__file__), "model_zoo", "configs")

# The losses of MODEL.EXTRA_LOSSES -> the loader's map that a loss takes beside logits and labels; None for none. It
# stands here, and their functions in modeling/losses/table.py, because the loader knows no model.
MAP_OF_LOSS: dict[str, str | None] = {
    "GENERALIZED_DICE": None,
    "BOUNDARY": "signed_distance",
    "ACTIVE_BOUNDARY": "contour_distance",
    "LOVASZ": None,
    "BOUNDARY_F": None,
    "BAND_CROSS_ENTROPY": "contour_distance",
    "CLASS_WEIGHTED_CROSS_ENTROPY": None,
}


class EPLCfgNode(CN):
    """Detectron2's config, whose files may be based on those of the model zoo inside the Detectron2 package.

    As in ``_BASE_: "model_zoo://COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"``. Detectron2 runs the code of
    YAML tags such as ``!!python/object/apply:eval``, which some of those files use; here theirs alone may.
    """

    @classmethod
    def _create_config_tree_from_dict(cls, dic: dict[str, Any], key_list: list[str]) -> dict[str, Any]:
        # The nodes below are Detectron2's, as those are that other projects add: types must agree in a merge.
        return CN._create_config_tree_from_dict(dic, key_list)

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:
        return CN._decode_cfg_value(value)

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """As in fvcore, which calls it for every base again; code is run for the model zoo alone, whatever is allowed.

        Raises:
            ValueError: another file has tags that run code.
        """
        try:
            return super().load_yaml_with_base(filename, allow_unsafe=MODEL_ZOO in filename)
        except yaml.constructor.ConstructorError as error:
            raise ValueError(f"{filename}: a YAML tag that could run code is not read ({error.problem})") from error

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        # fvcore takes a base for relative to the file that names it, and puts that file's folder before it.
        _, found, name = filename.rpartition(MODEL_ZOO)
        if not found:
            return super()._open_cfg(filename)
        path = os.path.join(_ZOO_CONFIGS, os.path.normpath(name))
        if os.path.normpath(name).startswith("..") or not os.path.isfile(path):
            raise FileNotFoundError(f"{MODEL_ZOO}{os.path.normpath(name)}: there is no such config in {_ZOO_CONFIGS}")
        return super()._open_cfg(path)


def get_cfg() -> EPLCfgNode:
    """Detectron2's default configuration with the keys of DeepLab, of PointRend and of epl_d2 added."""
    cfg = EPLCfgNode(get_detectron2_cfg())
    add_epl_config(cfg)
    return cfg


def add_epl_config(cfg: CN) -> None:
    """Add the keys of Detectron2's DeepLab and PointRend, where they are missing, and of epl_d2 to `cfg`, in place.

    What these keys name is registered with Detectron2 on the way, see :func:`epl_d2.register`. Of the defaults that
    were there before, which are made for detection and for hard pixel mining, four change:

    - ``INPUT.CROP.TYPE``: "relative_range" -> "absolute", and ``INPUT.CROP.SIZE``: [0.9, 0.9] -> [512, 512] pixels;
    - ``INPUT.MIN_SIZE_TEST``: 800 -> 0, so that test images keep their size;
    - ``MODEL.SEM_SEG_HEAD.LOSS_TYPE``: DeepLab's "hard_pixel_mining" -> "cross_entropy", unless the keys of DeepLab
      were added before.
    """
    register()
    if "POLY_LR_POWER" not in cfg.SOLVER:
        add_deeplab_config(cfg)
        # DeepLab's own default mines the hardest 20% of the pixels; the paper's baseline is plain cross entropy.
        cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = "cross_entropy"
    if "POINT_HEAD" not in cfg.MODEL:
        add_pointrend_config(cfg)
    _add_loss_config(cfg)
    _add_extra_loss_config(cfg)
    _add_model_config(cfg)
    _add_drn_config(cfg)
    _add_criss_cross_config(cfg)
    _add_wide_resnet_config(cfg)
    _add_semseg_head_config(cfg)
    _add_gscnn_config(cfg)
    _add_data_config(cfg)
    _add_solver_config(cfg)
    _add_test_config(cfg)
    _add_wandb_config(cfg)


def _add_loss_config(cfg: CN) -> None:
    cfg.MODEL.EPL = CN()
    # False: the head is its Detectron2 baseline, to the last bit of its losses.
    cfg.MODEL.EPL.ENABLED = True
    # Directions of the potentials: "A" = the 4 axis directions, "B" = the 4 diagonals, "C" = both.
    cfg.MODEL.EPL.SPLITTER = defaults.SPLITTER
    # "anisotropic": one ray a direction (the method). "standard": the full box, as in the paper's Table III.
    cfg.MODEL.EPL.CONVOLUTION = defaults.CONVOLUTION
    # What a ray sees at an ignored pixel. "nearest": the nearest valid pixel, as beyond the edge of the image.
    # "exclude": nothing. "background": class 0, as in the authors' code; for EPL alone, never for the criterion.
    cfg.MODEL.EPL.IGNORE_MODE = defaults.IGNORE_MODE
    # EPL sees the logits at 1/STRIDE of the label size, with its kernels scaled in proportion. 1 = label size.
    cfg.MODEL.EPL.STRIDE = 1
    # How EPL is computed: "auto" takes compiled kernels (Numba's on a CPU, Triton's on CUDA) and, after a warning,
    # plain PyTorch where these do not work. "plain", "numba" and "triton" take nothing else.
    cfg.MODEL.EPL.BACKEND = "auto"
    # Both of EPL's terms have one schedule.
    _add_schedule(cfg.MODEL.EPL)
    # The same as shares of SOLVER.MAX_ITER, for schedules of any length: 0.5 begins in the middle. With one of them
    # that is not 0, START_ITER and RAMP_ITERS stay 0.
    cfg.MODEL.EPL.START_FRACTION = 0.0
    cfg.MODEL.EPL.RAMP_FRACTION = 0.0

    cfg.MODEL.EPL.POINT = CN()
    # Factor of the point loss (eq. 3) in the total loss (eq. 5); 0 switches the term off. The paper's text has 0.1.
    cfg.MODEL.EPL.POINT.WEIGHT = defaults.POINT_WEIGHT
    # Kernel size w (odd, at least 3): a ray reaches floor(w / 2) pixels.
    cfg.MODEL.EPL.POINT.KERNEL_SIZE = defaults.KERNEL_SIZE
    # "l1" or "l2" distance between the potentials of label and prediction.
    cfg.MODEL.EPL.POINT.NORM = defaults.NORM
    # "image": a mean over all pixels, as in the paper. "lines": over the target's lines alone, each class of an image
    # and direction counting alike (ours); docs/evidence.md says what it does.
    cfg.MODEL.EPL.POINT.REGION = defaults.REGION

    cfg.MODEL.EPL.LINE = CN()
    # Factor of the equipotential line loss (eq. 4); 0 switches the term off. The paper's text has 0.01.
    cfg.MODEL.EPL.LINE.WEIGHT = defaults.LINE_WEIGHT
    cfg.MODEL.EPL.LINE.KERNEL_SIZE = defaults.KERNEL_SIZE
    # Even, positive exponent of the line activation exp(-(E - tau)^mu).
    cfg.MODEL.EPL.LINE.MU = defaults.MU
    # "official": what the authors' released code computes. "contour": Algorithm 1 of the paper with its evident intent,
    # and the default because of docs/evidence.md. "band": the same without ranks, on a band around the target's lines.
    cfg.MODEL.EPL.LINE.FORMULATION = defaults.FORMULATION

    # The masks of EPLMaskRCNNConvUpsampleHead and EPLPointRendMaskHead: one binary field an instance, of usually
    # 28 x 28 and 7 x 7 pixels, whatever the size of the object. The other keys of MODEL.EPL hold for them too, but for
    # IGNORE_MODE and STRIDE.
    cfg.MODEL.EPL.MASK = CN()
    cfg.MODEL.EPL.MASK.POINT = CN()
    cfg.MODEL.EPL.MASK.POINT.WEIGHT = defaults.POINT_WEIGHT
    cfg.MODEL.EPL.MASK.POINT.KERNEL_SIZE = 5
    cfg.MODEL.EPL.MASK.LINE = CN()
    cfg.MODEL.EPL.MASK.LINE.WEIGHT = 1.0
    cfg.MODEL.EPL.MASK.LINE.KERNEL_SIZE = 5


def _add_schedule(loss: CN) -> None:
    # A weight is 0 before START_ITER and rises linearly during RAMP_ITERS iterations after it.
    loss.START_ITER = 0
    loss.RAMP_ITERS = 0


def _add_extra_loss_config(cfg: CN) -> None:
    # Losses that EPL is compared with (docs/comparison_losses.md). Any number of them can be on, beside EPL or without
    # it; the loader computes the maps that they need.
    cfg.MODEL.EXTRA_LOSSES = CN()
    for name in MAP_OF_LOSS:
        cfg.MODEL.EXTRA_LOSSES[name] = CN()
        # Factor in the total loss; 0 leaves the loss out.
        cfg.MODEL.EXTRA_LOSSES[name].WEIGHT = 0.0
        _add_schedule(cfg.MODEL.EXTRA_LOSSES[name])
    # Distance to the contour, in pixels, from which on a predicted boundary pixel counts fully.
    cfg.MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.MAX_DISTANCE = 20.0
    # Share of an image's pixels that are taken for its predicted boundary, at most.
    cfg.MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.MAX_FRACTION = 0.01
    # Share of the target that goes to the directions that do not lead to the contour.
    cfg.MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.LABEL_SMOOTHING = 0.2
    # True: the mean over the images' losses. False: one loss over the pixels of the whole batch.
    cfg.MODEL.EXTRA_LOSSES.LOVASZ.PER_IMAGE = False
    # Pixels by which a boundary may be off.
    cfg.MODEL.EXTRA_LOSSES.BOUNDARY_F.TOLERANCE = 3
    # Of the band on either side of a contour, in pixels.
    cfg.MODEL.EXTRA_LOSSES.BAND_CROSS_ENTROPY.WIDTH = 3.0
    # One for each class; tools/find_class_weights.py counts them from DATASETS.TRAIN.
    cfg.MODEL.EXTRA_LOSSES.CLASS_WEIGHTED_CROSS_ENTROPY.CLASS_WEIGHTS = []

    # MODEL.SEM_SEG_HEAD.LOSS_TYPE, the loss that EPL and the losses above are added to, may be "cross_entropy",
    # "hard_pixel_mining" (Detectron2's: the hardest 20% of the pixels), "ohem", "label_relaxation" or "image_weighted"
    # (GSCNN's, each image weights its classes by their rarity).
    cfg.MODEL.SEM_SEG_HEAD.OHEM = CN()
    # Pixels count whose true class has at most this probability ...
    cfg.MODEL.SEM_SEG_HEAD.OHEM.THRESHOLD = 0.7
    # ... and at least so many pixels of a process's batch.
    cfg.MODEL.SEM_SEG_HEAD.OHEM.MIN_KEPT = 100000
    # The pixel of rank MIN_KEPT is looked for at 1/FACTOR of the size, as in CCNet; 1 looks at every pixel.
    cfg.MODEL.SEM_SEG_HEAD.OHEM.FACTOR = 8
    cfg.MODEL.SEM_SEG_HEAD.LABEL_RELAXATION = CN()
    # Pixels this near to another class may be of either.
    cfg.MODEL.SEM_SEG_HEAD.LABEL_RELAXATION.BORDER = 1


def _add_model_config(cfg: CN) -> None:
    # Layout of the weights and with them of all features: "contiguous" or "channels_last", which is faster on CPUs with
    # vector units and under mixed precision on GPUs. Results differ by rounding alone.
    cfg.MODEL.MEMORY_FORMAT = "contiguous"
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


def _add_wide_resnet_config(cfg: CN) -> None:
    cfg.MODEL.WIDE_RESNET38 = CN()
    # Features to return, among "mod1" (stride 1), "mod2" (2), "mod3" (4) and "mod4" ... "mod7" (8).
    cfg.MODEL.WIDE_RESNET38.OUT_FEATURES = ["mod2", "mod7"]
    # "BN", "SyncBN", "FrozenBN", ...
    cfg.MODEL.WIDE_RESNET38.NORM = "SyncBN"


def _add_semseg_head_config(cfg: CN) -> None:
    # The classifiers of EPLPSPHead and EPLPSAHead; CONVS_DIM are the channels of the main one.
    # Share of its channels that a classifier drops in training; those of EPLCCHead as well.
    cfg.MODEL.SEM_SEG_HEAD.DROPOUT = 0.1
    # Feature of the auxiliary branch, which only training uses; "" for none. The main one is the last of IN_FEATURES.
    cfg.MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE = ""
    # Channels of the auxiliary classifier.
    cfg.MODEL.SEM_SEG_HEAD.AUX_CONVS_DIM = 256

    cfg.MODEL.PSP = CN()
    # Cells per side of the grids over which the features are averaged.
    cfg.MODEL.PSP.BINS = [1, 2, 3, 6]
    # Channels of each grid.
    cfg.MODEL.PSP.CHANNELS = 512

    cfg.MODEL.PSA = CN()
    # "collect", "distribute" or "bi-direction" (both).
    cfg.MODEL.PSA.TYPE = "bi-direction"
    # Channels of the features that are attended, in each direction.
    cfg.MODEL.PSA.CHANNELS = 512
    # The attention works at 1/SHRINK_FACTOR of the features' resolution.
    cfg.MODEL.PSA.SHRINK_FACTOR = 2
    # Height and width of the attention masks, odd numbers; parameters depend on them. [] takes those that reach across
    # the whole crop: 59 for 465 pixels at stride 8, 71 for 561. A checkpoint fits the masks that it was trained with.
    cfg.MODEL.PSA.MASK_SIZE = []


def _add_drn_config(cfg: CN) -> None:
    cfg.MODEL.DRN = CN()
    # Features to return, among "layer0", "layer1" (stride 1), "layer2" (2), "layer3" (4), "layer4" ... "layer8" (8).
    cfg.MODEL.DRN.OUT_FEATURES = ["layer3", "layer8"]
    # "BN", "SyncBN", "FrozenBN", ...
    cfg.MODEL.DRN.NORM = "SyncBN"


def _add_criss_cross_config(cfg: CN) -> None:
    cfg.MODEL.CC = CN()
    # How often the attention is applied; 2 lets every pixel see every other.
    cfg.MODEL.CC.RECURRENCE = 2
    # Channels of the attention, a multiple of 8; 0 takes a quarter of its input's, as the reference does.
    cfg.MODEL.CC.CHANNELS = 0
    # Channels that are classified, in the main and in the auxiliary branch.
    cfg.MODEL.CC.OUT_CHANNELS = 512


def _add_gscnn_config(cfg: CN) -> None:
    cfg.MODEL.GSCNN = CN()
    # Features of the shape stream: the one that it begins with, then one for each gate.
    cfg.MODEL.GSCNN.SHAPE_FEATURES = ["mod1", "mod3", "mod4", "mod7"]
    # Channels of the stream at each gate.
    cfg.MODEL.GSCNN.SHAPE_CHANNELS = [32, 16, 8]
    # Factors of the losses beside the criterion; 0 leaves one out.
    cfg.MODEL.GSCNN.EDGE_WEIGHT = 20.0
    cfg.MODEL.GSCNN.ATTENTION_WEIGHT = 1.0
    cfg.MODEL.GSCNN.DUAL_TASK_WEIGHT = 1.0
    # False: class 0 has no contour of its own in the edge target, as in the reference implementation.
    cfg.MODEL.GSCNN.EDGES_OF_ALL_CLASSES = False


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
    # The shift is uniform in [-x, x] of the color circle.
    cfg.INPUT.COLOR_JITTER.HUE = 0.25
    # Where an image smaller than the crop is placed: "center" (semseg) or "right_bottom" (padding right and below).
    cfg.INPUT.CROP.PAD = "center"

    # Maps that the loader's workers compute for the model from image and label: names of epl_d2/data/maps.py.
    cfg.INPUT.MAPS = []

    # Unreadable training files that are skipped with a warning before the run stops; 0 stops at the first.
    cfg.DATALOADER.MAX_UNREADABLE = 0
    # YAML files that describe your own data sets (docs/data.md).
    cfg.DATASETS.SEM_SEG_FILES = []
    # Names of the classes and a color [r, g, b] of each; [] takes those of the data set. A training writes them into
    # the config that it saves, so that the model can be used without the data set's files.
    cfg.DATASETS.CLASSES = []
    cfg.DATASETS.PALETTE = []


def _add_solver_config(cfg: CN) -> None:
    # Learning rate of everything below `sem_seg_head.` as a multiple of BASE_LR (10 in the reference recipes).
    cfg.SOLVER.HEAD_LR_FACTOR = 1.0
    # With SOLVER.MAX_ITER 0: how often each image of DATASETS.TRAIN is seen. The iterations that this makes stand as
    # MAX_ITER in the config that a training saves.
    cfg.SOLVER.EPOCHS = 0


def _add_test_config(cfg: CN) -> None:
    cfg.TEST.BOUNDARY = CN()
    # Pixel widths at which boundary F, trimap and boundary IoU are accumulated (all of them go to the curves).
    cfg.TEST.BOUNDARY.WIDTHS = list(range(1, 21))
    # Widths that appear among the printed results; a subset of WIDTHS.
    cfg.TEST.BOUNDARY.REPORT_WIDTHS = [1, 3, 5, 9]
    # "ignore": boundary pixels beside ignored pixels do not count. "nearest": an ignored pixel of the target has the
    # label of its nearest valid one, so that contours lie in the middle of VOC's rims. "zero": the habit of GSCNN.
    cfg.TEST.BOUNDARY.IGNORE_MODE = "ignore"
    # With "nearest": pixels farther than this from every valid one stay ignored.
    cfg.TEST.BOUNDARY.IGNORE_DISTANCE = 5
    # "label-change": band around every change of label. "void": band around VOC's void contours.
    cfg.TEST.BOUNDARY.TRIMAP = "label-change"
    # Width of the boundary of masks and segments (boundary AP, boundary PQ) as a part of the image's diagonal.
    cfg.TEST.BOUNDARY.DILATION_RATIO = 0.02
    # Keep the predictions of every evaluation as label-id PNGs below OUTPUT_DIR/inference.
    cfg.TEST.SAVE_PREDICTIONS = False
    # Keep the counts of every single image (image_counts.npz), from which tools/run_grid.py computes paired intervals.
    cfg.TEST.SAVE_IMAGE_COUNTS = False
    # tau of `logits - tau * log(prior)` before the best class of a pixel is taken; the priors are the shares of the
    # classes in the labeled pixels of DATASETS.TRAIN. 0 changes nothing. tools/find_prior_shift.py finds the best.
    cfg.TEST.PRIOR_SHIFT = 0.0
    # Metric whose best value is kept as model_best.pth, e.g. "sem_seg/mIoU" or "sem_seg/BF@3px"; "" keeps none.
    cfg.TEST.BEST_CHECKPOINT_METRIC = ""

    # Detectron2's TEST.AUG.ENABLED asks for the scales and, with its TEST.AUG.FLIP, for the mirrored images below; its
    # MIN_SIZES and MAX_SIZE are not used. Probabilities are averaged, at the size of the ground truth.
    cfg.TEST.AUG.SCALES = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    # Long side in pixels of an image at scale 1 (semseg: 512 for VOC, 2048 for Cityscapes); 0 keeps its own.
    cfg.TEST.AUG.BASE_SIZE = 0
    # Accumulate probabilities in float16: half the memory, and errors of about 0.001.
    cfg.TEST.AUG.HALF = False
    cfg.TEST.WINDOW = CN()
    # Sliding windows instead of the whole image, with TEST.AUG or without.
    cfg.TEST.WINDOW.ENABLED = False
    # Height and width in pixels; [] is INPUT.CROP.SIZE. Images that are smaller are centered in the mean color.
    cfg.TEST.WINDOW.SIZE = []
    # Step between windows as a part of their size, rounded up; the last window is flush with the edge.
    cfg.TEST.WINDOW.STRIDE_FRACTION = 2 / 3
    # Windows in one forward pass (and, with TEST.AUG.FLIP, as many mirrored ones): this bounds the memory.
    cfg.TEST.WINDOW.BATCH = 4


def _add_wandb_config(cfg: CN) -> None:
    # Detectron2's VIS_PERIOD: iterations between two sets of pictures of a training sample; 0 draws none.
    # Scalars and pictures also go to Weights & Biases (pip install -e '.[wandb]').
    cfg.WANDB = CN()
    cfg.WANDB.ENABLED = False
    cfg.WANDB.PROJECT = "epl_d2"
    # Name of the run; "" lets the service choose one.
    cfg.WANDB.NAME = ""
