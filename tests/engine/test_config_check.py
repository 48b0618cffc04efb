"""What cannot work is refused before the first iteration, with the key, what it is and what it may be."""

import numpy as np
import pytest

from epl_d2.engine import check_config, evaluators


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"SOLVER.MAX_ITER": 0}, r"SOLVER\.MAX_ITER is 0, expected a positive number of iterations"),
        ({"SOLVER.CHECKPOINT_PERIOD": 0}, r"SOLVER\.CHECKPOINT_PERIOD is 0"),
        ({"SOLVER.BASE_LR": float("nan")}, r"SOLVER\.BASE_LR is nan"),
        ({"SOLVER.IMS_PER_BATCH": 0}, r"SOLVER\.IMS_PER_BATCH is 0, expected a positive number of images"),
        (
            {"SOLVER.HEAD_LR_FACTOR": float("inf")},
            r"SOLVER\.HEAD_LR_FACTOR is inf, expected a finite number of at least 0",
        ),
        ({"MODEL.SEM_SEG_HEAD.DROPOUT": 1.0}, r"MODEL\.SEM_SEG_HEAD\.DROPOUT is 1\.0, expected a share in \[0, 1\)"),
        ({"TEST.EVAL_PERIOD": -1}, r"TEST\.EVAL_PERIOD is -1"),
        ({"VIS_PERIOD": -1}, r"VIS_PERIOD is -1"),
        ({"MODEL.PIXEL_MEAN": [1.0, 2.0]}, r"MODEL\.PIXEL_MEAN is \[1\.0, 2\.0\], expected three numbers"),
        ({"MODEL.PIXEL_STD": [1.0, 0.0, 1.0]}, r"MODEL\.PIXEL_STD .* three positive"),
        ({"INPUT.FORMAT": "L"}, r"INPUT\.FORMAT is 'L'"),
        ({"INPUT.CROP.SIZE": [0, 32]}, r"INPUT\.CROP\.SIZE is \[0, 32\], expected height and width in pixels"),
        ({"MODEL.SEM_SEG_HEAD.NORM": "Batch"}, r"MODEL\.SEM_SEG_HEAD\.NORM is 'Batch'"),
        ({"DATASETS.TRAIN": ()}, r"DATASETS\.TRAIN is empty"),
        ({"DATASETS.TRAIN": ("nowhere_sem_seg",)}, r"no data set 'nowhere_sem_seg'"),
        ({"TEST.BOUNDARY.WIDTHS": [0, 1]}, r"TEST\.BOUNDARY \(WIDTHS.*widths must be positive"),
        ({"TEST.BOUNDARY.REPORT_WIDTHS": [7]}, r"TEST\.BOUNDARY .*REPORT_WIDTHS.*\[7\] are not among"),
        ({"TEST.BOUNDARY.IGNORE_MODE": "skip"}, r"TEST\.BOUNDARY .*IGNORE_MODE.*'skip'"),
        ({"TEST.BOUNDARY.IGNORE_DISTANCE": 0}, r"TEST\.BOUNDARY .*IGNORE_DISTANCE.*positive integer .* got 0"),
        ({"TEST.BOUNDARY.TRIMAP": "voids"}, r"TEST\.BOUNDARY .*TRIMAP.*'voids'"),
        ({"TEST.AUG.ENABLED": True, "TEST.AUG.SCALES": [1.0, 0.0]}, r"TEST\.AUG\.SCALES is \[1\.0, 0\.0\]"),
        ({"TEST.AUG.ENABLED": True, "TEST.AUG.SCALES": []}, r"TEST\.AUG\.SCALES is \[\]"),
        ({"TEST.AUG.ENABLED": True, "TEST.AUG.BASE_SIZE": -1}, r"TEST\.AUG\.BASE_SIZE is -1"),
        ({"TEST.WINDOW.ENABLED": True, "TEST.WINDOW.SIZE": [9]}, r"TEST\.WINDOW\.SIZE is \[9\]"),
        ({"TEST.WINDOW.ENABLED": True, "TEST.WINDOW.STRIDE_FRACTION": 1.5}, r"TEST\.WINDOW\.STRIDE_FRACTION is 1\.5"),
        ({"TEST.WINDOW.ENABLED": True, "TEST.WINDOW.BATCH": 0}, r"TEST\.WINDOW\.BATCH is 0"),
        (
            {"TEST.WINDOW.ENABLED": True, "INPUT.CROP.TYPE": "relative_range", "INPUT.CROP.SIZE": [0.9, 0.9]},
            r'INPUT\.CROP\.TYPE is \'relative_range\', expected "absolute" for windows .*\(TEST\.WINDOW\.SIZE \[\]\)',
        ),
        (
            {"TEST.WINDOW.ENABLED": True, "INPUT.CROP.ENABLED": False, "INPUT.CROP.SIZE": [0, 0]},
            r"INPUT\.CROP\.SIZE is \[0, 0\], expected height and width .*\(TEST\.WINDOW\.SIZE \[\]\)",
        ),
        ({"TEST.PRIOR_SHIFT": float("inf")}, r"TEST\.PRIOR_SHIFT is inf, expected a finite number"),
        ({"TEST.PRIOR_SHIFT": float("nan")}, r"TEST\.PRIOR_SHIFT is nan, expected a finite number"),
        (
            {"TEST.WINDOW.ENABLED": True, "MODEL.META_ARCHITECTURE": "SemanticSegmentor"},
            r"MODEL\.META_ARCHITECTURE is 'SemanticSegmentor'",
        ),
        (
            {"TEST.BEST_CHECKPOINT_METRIC": "mIoU"},
            r"TEST\.BEST_CHECKPOINT_METRIC is 'mIoU', which no evaluation computes; .*sem_seg/mIoU",
        ),
        ({"TEST.BEST_CHECKPOINT_METRIC": "sem_seg/BF@9px"}, r"'sem_seg/BF@9px'.*sem_seg/BF@3px"),
        ({"DATASETS.TEST": ()}, r"TEST\.BEST_CHECKPOINT_METRIC .* DATASETS\.TEST is empty"),
        (
            {"DATASETS.TEST": ("shapes_sem_seg_val", "shapes_sem_seg_train")},
            r"'sem_seg/mIoU'.*shapes_sem_seg_val/sem_seg/mIoU",
        ),
    ],
)
def test_a_mistake_is_named_before_the_training(tiny_config, tmp_path, changes, expected):
    with pytest.raises(ValueError, match=expected):
        check_config(tiny_config(tmp_path, **changes), training=True)


STOCK = {"MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead"}
OFF = {"MODEL.EPL.ENABLED": False}


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({}, "MODEL.EPL.LINE.WEIGHT", "3.0"),
        ({"MODEL.EPL.LINE.WEIGHT": 0.0, "MODEL.EPL.POINT.WEIGHT": 0.1}, "MODEL.EPL.POINT.WEIGHT", "0.1"),
        ({**OFF, "MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT": 9.0}, "MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT", "9.0"),
        ({**OFF, "MODEL.SEM_SEG_HEAD.LOSS_TYPE": "ohem"}, "MODEL.SEM_SEG_HEAD.LOSS_TYPE", "'ohem'"),
        ({**OFF, "MODEL.SEM_SEG_HEAD.LOSS_TYPE": "hard_pixel_mining"}, "MODEL.SEM_SEG_HEAD.LOSS_TYPE", "'hard_pixel_m"),
    ],
)
def test_losses_need_a_head_that_computes_them(tiny_config, tmp_path, changes, key, value):
    cfg = tiny_config(tmp_path, **STOCK, **changes)
    expected = (
        rf"^{key} is {value}.*, but MODEL\.SEM_SEG_HEAD\.NAME is 'SemSegFPNHead', .* may be EPL\w+Head, .*EPLSemSegFPN"
    )
    with pytest.raises(ValueError, match=expected) as caught:
        check_config(cfg, training=True)
    assert str(caught.value).endswith("or MODEL.EPL.ENABLED False") == key.startswith("MODEL.EPL")
    check_config(cfg, training=False)
    check_config(tiny_config(tmp_path, **changes), training=True)


@pytest.mark.parametrize(
    "changes",
    [
        {**STOCK, **OFF},
        {**STOCK, "MODEL.EPL.LINE.WEIGHT": 0.0},
        {**OFF, "MODEL.SEM_SEG_HEAD.NAME": "DeepLabV3PlusHead"},
        {**OFF, "MODEL.SEM_SEG_HEAD.NAME": "DeepLabV3Head", "MODEL.SEM_SEG_HEAD.LOSS_TYPE": "hard_pixel_mining"},
    ],
)
def test_heads_of_detectron2_train_with_losses_of_their_own(tiny_config, tmp_path, changes):
    check_config(tiny_config(tmp_path, **changes), training=True)


def test_a_prior_needs_pixels_of_every_class(tiny_config, tmp_path, monkeypatch):
    cfg = tiny_config(tmp_path, **{"TEST.PRIOR_SHIFT": 0.5})
    check_config(cfg, training=True)
    monkeypatch.setattr(evaluators, "class_pixels", lambda names, num_classes, ignore_value: np.arange(num_classes))
    for training in (True, False):
        with pytest.raises(ValueError, match=r"TEST\.PRIOR_SHIFT 0\.5, DATASETS\.TRAIN .*'sky' never occurs"):
            check_config(cfg, training=training)
    check_config(tiny_config(tmp_path), training=True)


@pytest.mark.parametrize("cropping", [True, False])
def test_windows_of_the_size_of_the_crop_and_of_their_own(tiny_config, tmp_path, cropping):
    windows = {"TEST.WINDOW.ENABLED": True, "INPUT.CROP.ENABLED": cropping}
    check_config(tiny_config(tmp_path, **windows), training=True)
    own = {"TEST.WINDOW.SIZE": [32, 48], "INPUT.CROP.TYPE": "relative_range", "INPUT.CROP.SIZE": [0.9, 0.9]}
    check_config(tiny_config(tmp_path, **windows, **own), training=True)


@pytest.mark.parametrize(
    "key",
    [
        *("SOLVER.HEAD_LR_FACTOR", "SOLVER.BIAS_LR_FACTOR"),
        *("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT"),
        *("MODEL.GSCNN.EDGE_WEIGHT", "MODEL.GSCNN.ATTENTION_WEIGHT", "MODEL.GSCNN.DUAL_TASK_WEIGHT"),
    ],
)
def test_no_factor_leads_away_from_the_labels(tiny_config, tmp_path, key):
    for value in (-0.4, float("nan")):
        with pytest.raises(ValueError, match=rf"^{key} is {value}, expected a finite number of at least 0$"):
            check_config(tiny_config(tmp_path, **{key: value}), training=True)
    check_config(tiny_config(tmp_path, **{key: 0.0}), training=True)


@pytest.mark.parametrize(
    "key", ["SEM_SEG_HEAD.CONVS_DIM", "SEM_SEG_HEAD.AUX_CONVS_DIM", "PSP.CHANNELS", "PSA.CHANNELS"]
)
@pytest.mark.parametrize("training", [True, False])
def test_every_layer_has_channels(tiny_config, tmp_path, key, training):
    with pytest.raises(ValueError, match=rf"^MODEL\.{key} is 0, expected a positive number of channels$"):
        check_config(tiny_config(tmp_path, **{f"MODEL.{key}": 0}), training=training)


@pytest.mark.parametrize("metric", ["", "sem_seg/mIoU", "sem_seg/BF@3px", "sem_seg/IoU-rod", "sem_seg/Trimap-mIoU@1px"])
def test_what_works_passes(tiny_config, tmp_path, metric):
    check_config(tiny_config(tmp_path, **{"TEST.BEST_CHECKPOINT_METRIC": metric}), training=True)


def test_an_evaluation_needs_what_it_uses_alone(tiny_config, tmp_path):
    check_config(tiny_config(tmp_path, **{"SOLVER.MAX_ITER": 0, "DATASETS.TRAIN": ()}), training=False)
    with pytest.raises(ValueError, match=r"DATASETS\.TEST is empty"):
        check_config(tiny_config(tmp_path, **{"DATASETS.TEST": ()}), training=False)
