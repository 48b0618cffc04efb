"""The models that travel with the package."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import epl_d2
from epl_d2 import model_zoo
from epl_d2.data.datasets import dataset_root
from epl_d2.data.label_io import make_label_map, read_label
from epl_d2.evaluation import BoundaryStatistics

ROOT = Path(__file__).parents[2]
CAMVID = "CamVid/semantic_fpn_mobilenet_v2_c64_240_6000_bs4_epl.yaml"


def test_there_is_a_model():
    assert CAMVID in model_zoo.trained_configs()


@pytest.mark.parametrize("config", model_zoo.trained_configs())
def test_a_model_is_small_safe_and_has_a_card(config):
    file = Path(model_zoo.get_checkpoint_url(config))
    assert sorted(path.name for path in file.parent.iterdir()) == ["README.md", file.name]
    assert file.stat().st_size < 5_000_000
    assert file.stem.endswith(f"_{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}")
    content = torch.load(file, weights_only=True)
    assert set(content) == {"model", "__author__"}
    assert {value.dtype for value in content["model"].values() if value.is_floating_point()} == {torch.float16}
    card = (file.parent / "README.md").read_text(encoding="utf-8")
    assert file.name in card and config in card and "not under the Apache-2.0 licence" in card
    assert "95% interval" in card and "| seed |" in card and "| device |" in card
    assert f"({file.parent.relative_to(ROOT).as_posix()}/README.md)" in (ROOT / "MODEL_ZOO.md").read_text("utf-8")


def test_a_picture_takes_two_lines():
    picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    result = epl_d2.Predictor.from_zoo(CAMVID, device="cpu")(picture)
    assert result.labels.shape == (90, 130) and len(result.classes) == 11 and result.classes[3] == "road"
    assert result.draw(legend=False).shape == picture.shape


def test_the_model_scores_about_as_its_card_says():
    folder = Path(dataset_root(), "camvid")
    if "DETECTRON2_DATASETS" not in os.environ or not folder.is_dir():
        pytest.skip("DETECTRON2_DATASETS names no folder with CamVid")
    card = Path(model_zoo.get_checkpoint_url(CAMVID)).with_name("README.md").read_text(encoding="utf-8")
    expected = float(re.search(r"^\| `val` \| ([\d.]+) \[", card, re.MULTILINE)[1])
    predictor = epl_d2.Predictor.from_zoo(CAMVID, device="cpu")
    statistics = BoundaryStatistics(11, [1])
    for image in sorted((folder / "val").iterdir())[::10]:
        label = read_label(folder / "valannot" / f"{image.stem}.png", label_map=make_label_map({11: 255}))
        statistics.update(predictor(image).labels, label)
    # A tenth of the frames; wrong channels, sizes or classes cost more than this.
    assert 100 * statistics.compute()["mIoU"] == pytest.approx(expected, abs=8)
