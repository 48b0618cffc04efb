"""A training of seconds: the shipped config of the shapes with a narrow head, on eight small scenes."""

import pytest

from epl_d2 import get_cfg
from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.shapes import write_shapes

OPTIONS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 8,
    "INPUT.CROP.SIZE": (32, 32),
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MAX_ITER": 4,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "TEST.EVAL_PERIOD": 2,
    "TEST.BEST_CHECKPOINT_METRIC": "sem_seg/mIoU",
    "TEST.BOUNDARY.WIDTHS": (1, 2, 3),
    "TEST.BOUNDARY.REPORT_WIDTHS": (1, 3),
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture(scope="module")
def tiny_config(tmp_path_factory):
    """tiny_config(folder, **{"SOLVER.MAX_ITER": 6}): a frozen config that writes to `folder`."""
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(str(root / "shapes"), train=8, val=2, size=(48, 48), seed=0)
    register_all_datasets(str(root))

    def make(folder, **options):
        cfg = get_cfg()
        cfg.merge_from_file("configs/shapes/deeplab_v3_plus_mobilenet_v2_epl.yaml")
        cfg.merge_from_list([part for pair in {**OPTIONS, **options}.items() for part in pair])
        cfg.OUTPUT_DIR = str(folder)
        cfg.freeze()
        return cfg

    yield make
    register_all_datasets()
