"""`Trainer.test`, which `train_net.py --eval-only` calls, and the predictor use one protocol."""

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import epl_d2
from epl_d2.checkpoint.loading import load_weights
from epl_d2.data.datasets import register_sem_seg_folder
from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.data.shapes import render_scene
from epl_d2.engine import Trainer


@pytest.fixture
def dataset(tmp_path):
    for number in range(2):
        image, label = render_scene(number, (40 + 8 * number, 56))
        for kind, picture in (("images", image[:, :, ::-1]), ("labels", label)):
            (tmp_path / kind).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / kind / f"{number}.png"), picture)
    shapes = DATASETS["shapes"]
    register_sem_seg_folder("inference_test", tmp_path / "images", tmp_path / "labels", shapes.classes, shapes.palette)
    yield tmp_path / "images"
    DatasetCatalog.remove("inference_test")
    MetadataCatalog.remove("inference_test")


@pytest.mark.parametrize(
    "protocol",
    [
        ["TEST.AUG.ENABLED", True, "TEST.AUG.SCALES", [0.5, 1.0, 1.5]],
        ["TEST.WINDOW.ENABLED", True, "TEST.WINDOW.SIZE", [33, 33]],
    ],
    ids=["scales", "windows"],
)
def test_evaluation_uses_the_protocol_of_the_config(dataset, config_file, weights, options, tmp_path, protocol):
    opts = [*options, *protocol, "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "TEST.SAVE_PREDICTIONS", True]
    cfg = epl_d2.get_cfg()
    cfg.merge_from_file(str(config_file))
    cfg.merge_from_list([*opts, "DATASETS.TEST", ("inference_test",), "OUTPUT_DIR", str(tmp_path)])
    model = Trainer.build_model(cfg).train()
    load_weights(model, weights)
    results = Trainer.test(cfg, model)
    assert model.training and model.backbone.training  # as before the evaluation
    assert 0 <= results["sem_seg"]["mIoU"] <= 100

    predictor = epl_d2.Predictor.from_config(config_file, weights, [*options, *protocol], "cpu")
    plain = epl_d2.Predictor.from_config(config_file, weights, options, "cpu")
    differences = 0
    for image in sorted(dataset.iterdir()):
        saved = cv2.imread(str(tmp_path / "inference" / "predictions" / image.name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(saved, predictor(image).labels)
        differences += (saved != plain(image).labels).sum()
    assert differences > 0  # the protocol was not ignored
