"""The predictor against the model itself, and pictures of every kind."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

import epl_d2
from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.data.datasets.palette import distinct_palette
from epl_d2.data.shapes import render_scene
from epl_d2.engine import Trainer
from epl_d2.inference import load_predictor


@pytest.fixture(scope="module")
def predictor(config_file, weights, options):
    return epl_d2.Predictor.from_config(config_file, weights=weights, opts=options, device="cpu")


@pytest.fixture(scope="module")
def scene():
    return render_scene(3, (48, 70))[0]


def test_result_is_that_of_the_model(predictor, config_file, weights, options, scene):
    cfg = epl_d2.get_cfg()
    cfg.merge_from_file(str(config_file))
    cfg.merge_from_list([*options, "MODEL.DEVICE", "cpu"])
    model = Trainer.build_model(cfg).eval()
    DetectionCheckpointer(model).load(str(weights))
    with torch.no_grad():
        logits = model([{"image": torch.from_numpy(scene.transpose(2, 0, 1).copy())}])[0]["sem_seg"]
    result = predictor(scene)
    torch.testing.assert_close(result.probabilities, logits.softmax(0), atol=1e-5, rtol=1e-4)
    assert result.labels.dtype == np.uint8 and result.labels.shape == (48, 70)
    assert len(np.unique(result.labels)) > 1
    np.testing.assert_array_equal(result.labels, result.probabilities.argmax(0).numpy())
    assert result.classes == DATASETS["shapes"].classes and result.palette == DATASETS["shapes"].palette
    np.testing.assert_array_equal(result.image, scene)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.labels = None


def test_a_config_without_names_takes_those_of_a_file(config_file, weights, options, scene, tmp_path):
    names = ["a", "b", "c", "d", "e", "f"]
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nclasses: {names}\nsplits: {{val: {{images: photos, labels: masks}}}}\n")
    options = [*options, "DATASETS.TRAIN", (), "DATASETS.TEST", ("gone_val",)]
    options += ["DATASETS.SEM_SEG_FILES", ["/another/machine/mine.yaml"]]
    known = epl_d2.Predictor.from_config(config_file, weights, options, "cpu", dataset_file=path)
    assert known.classes == tuple(names) and known.palette == distinct_palette(6)
    unknown = epl_d2.Predictor.from_config(config_file, weights, options, "cpu")
    assert unknown.classes == tuple("012345")
    np.testing.assert_array_equal(known(scene).labels, unknown(scene).labels)
    for name in ("mine_val", "gone_val"):
        MetadataCatalog.remove(name)
    DatasetCatalog.remove("mine_val")


def test_files_pillow_pictures_and_arrays_give_the_same_labels(predictor, scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / "scene.png")
    expected = predictor(scene).labels
    for picture in (tmp_path / "scene.png", str(tmp_path / "scene.png"), Image.fromarray(scene)):
        np.testing.assert_array_equal(predictor(picture).labels, expected)


def test_alpha_gray_and_sixteen_bits(predictor, scene, tmp_path):
    alpha = np.full((48, 70, 1), 7, np.uint8)
    np.testing.assert_array_equal(predictor(np.concatenate([scene, alpha], axis=2)).image, scene)
    np.testing.assert_array_equal(predictor(scene.astype(np.uint16) * 256 + 91).image, scene)
    gray = scene[:, :, 0]
    repeated = np.repeat(gray[:, :, None], 3, axis=2)
    Image.fromarray(gray.astype(np.uint16) * 256).save(tmp_path / "deep.png")
    for picture in (gray, gray[:, :, None], Image.fromarray(gray), tmp_path / "deep.png"):
        result = predictor(picture)
        np.testing.assert_array_equal(result.image, repeated)
        assert result.labels.shape == (48, 70)


def test_a_thin_picture_keeps_a_pixel_where_its_long_side_is_bounded(config_file, weights, options):
    options = [*options, "INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 96]
    predictor = epl_d2.Predictor.from_config(config_file, weights, options, "cpu")
    for size in ((1, 300), (300, 1)):
        result = predictor(np.full((*size, 3), 77, np.uint8))
        assert result.labels.shape == size
        torch.testing.assert_close(result.probabilities.sum(0), torch.ones(size))


def test_exif_rotation_is_applied_to_files_and_pillow_pictures(predictor, scene, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(scene).save(tmp_path / "turned.png", exif=exif)
    for picture in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        result = predictor(picture)
        np.testing.assert_array_equal(result.image, np.rot90(scene, -1))
        assert result.labels.shape == (70, 48)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (7, 9), (129, 31)])
@pytest.mark.parametrize("windows", [False, True])
def test_any_size(config_file, weights, options, size, windows):
    opts = [*options, "TEST.WINDOW.ENABLED", windows, "TEST.WINDOW.SIZE", [33, 33]]
    predictor = epl_d2.Predictor.from_config(config_file, weights, opts, "cpu")
    result = predictor(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    assert result.labels.shape == size and result.probabilities.shape == (6, *size)
    torch.testing.assert_close(result.probabilities.sum(0), torch.ones(size))
    assert result.draw(legend=False).shape == (*size, 3)


def test_the_config_resizes_and_orders_the_channels(config_file, weights, options, scene):
    opts = [*options, "INPUT.MIN_SIZE_TEST", 96, "INPUT.FORMAT", "BGR"]
    predictor = epl_d2.Predictor.from_config(config_file, weights, opts, "cpu")
    seen = []
    inner = predictor._model.model.predict
    predictor._model.model.predict = lambda images: seen.append(images) or inner(images)
    result = predictor(scene)
    assert result.labels.shape == (48, 70) and seen[0].shape == (1, 3, 96, 140)
    model = predictor._model.model
    shown = (seen[0][0] * model.pixel_std + model.pixel_mean).numpy().transpose(1, 2, 0)
    expected = np.asarray(Image.fromarray(scene[:, :, ::-1].copy()).resize((140, 96), Image.BILINEAR))
    np.testing.assert_allclose(shown, expected, atol=1e-3)


def test_pictures(predictor, scene):
    result = predictor(scene)
    colors = np.array(result.palette, np.uint8)[result.labels]
    np.testing.assert_array_equal(result.draw("colors", legend=False), colors)
    np.testing.assert_array_equal(result.draw(legend=False), cv2.addWeighted(scene, 0.5, colors, 0.5, 0))
    contours = result.draw("contours", legend=False)
    changed = (contours != scene).any(axis=2)
    assert 0 < changed.mean() < 1
    with_legend = result.draw()
    assert with_legend.shape[0] > 48 and with_legend.dtype == np.uint8
    assert all((with_legend == result.palette[i]).all(axis=2).any() for i in np.unique(result.labels))
    with pytest.raises(ValueError, match="overlay"):
        result.draw("heat")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 5, 2), np.uint8), r"\(4, 5, 2\)"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
        (np.zeros((4, 5, 3), np.float32), "float32"),
        (torch.zeros(3, 4, 5), "Tensor"),
    ],
)
def test_other_arrays_are_refused(predictor, picture, message):
    with pytest.raises(ValueError, match=message):
        predictor(picture)


def test_missing_and_broken_files(predictor, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        predictor(tmp_path / "nowhere.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        predictor(tmp_path / "broken.png")


def test_a_checkpoint_of_another_model_names_what_differs(config_file, other_weights, options):
    with pytest.raises(ValueError, match=r"sem_seg_head\S+: model \[.*8.*\], checkpoint \[.*12.*\]"):
        epl_d2.Predictor.from_config(config_file, other_weights, options, "cpu")


@pytest.mark.parametrize("load", [epl_d2.Predictor.from_config, load_predictor])
def test_two_checkpoints_are_refused(config_file, weights, other_weights, options, load):
    opts = [*options, "MODEL.WEIGHTS", str(weights)]
    with pytest.raises(ValueError, match=f"two checkpoints are given, '{other_weights}' .* '{weights}'"):
        load(config_file, other_weights, opts, "cpu")
    assert load(config_file, None, opts, "cpu").classes == DATASETS["shapes"].classes


def test_without_a_fitting_data_set_classes_are_numbered(config_file, options, tmp_path, weights):
    state = torch.load(weights, weights_only=True)
    for name in ("weight", "bias"):
        key = f"sem_seg_head.predictor.{name}"
        state["model"][key] = torch.cat([state["model"][key]] * 50)
    torch.save(state, tmp_path / "many.pth")
    opts = [*options, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 300]
    predictor = epl_d2.Predictor.from_config(config_file, tmp_path / "many.pth", opts, "cpu")
    result = predictor(np.zeros((20, 30, 3), np.uint8))
    assert result.classes[299] == "299" and len(result.palette) == 300
    assert result.labels.dtype == np.uint16
    assert result.draw(legend=False).shape == (20, 30, 3)
