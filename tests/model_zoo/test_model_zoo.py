"""The zoo's functions on a small checkpoint of the test's own."""

from pathlib import Path

import pytest
import torch

import epl_d2
from epl_d2 import model_zoo
from epl_d2.data.shapes import render_scene
from epl_d2.engine import Trainer
from epl_d2.model_zoo import model_zoo as implementation

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = "shapes/deeplab_v3_plus_mobilenet_v2_epl.yaml"


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The state dict of a model of CONFIG, which the zoo has in half precision."""
    cfg = epl_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / CONFIG))
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(3)
    state = {name: value.half().to(value.dtype) for name, value in Trainer.build_model(cfg).state_dict().items()}
    file = tmp_path / CONFIG.removesuffix(".yaml") / "model_final_0123abcd.pth"
    file.parent.mkdir(parents=True)
    torch.save({"model": {k: v.half() if v.is_floating_point() else v for k, v in state.items()}}, file)
    monkeypatch.setattr(implementation, "_CHECKPOINTS", tmp_path)
    return file, state


@pytest.mark.parametrize("name", ["Base-SemSeg.yaml", CONFIG, "VOC2012/psanet_R_50_os8_epl.yaml"])
def test_a_config_is_the_one_of_the_repository(name):
    assert Path(model_zoo.get_config_file(name)).read_bytes() == (CONFIGS / name).read_bytes()
    expected = epl_d2.get_cfg()
    expected.merge_from_file(str(CONFIGS / name))
    assert model_zoo.get_config(name).dump() == expected.dump()


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        (f"configs/{CONFIG}", CONFIG),  # as in the commands of the repository
        ("camvid/semantic_fpn_R_50.yaml", "CamVid/semantic_fpn_R_50.yaml"),
        ("grids/camvid_mu_cpu.yaml", "CamVid/"),
        ("CamVid", "CamVid/"),
    ],
)
def test_an_unknown_config_is_an_error_that_names_similar_ones(name, similar):
    with pytest.raises(FileNotFoundError, match="similar ones are") as raised:
        model_zoo.get_config_file(name)
    assert similar in str(raised.value).partition("similar ones are")[2]


def test_a_trained_model_has_the_weights_of_the_zoo(trained):
    file, state = trained
    assert model_zoo.get_checkpoint_url(CONFIG) == str(file)
    assert str(file) == model_zoo.get_config(CONFIG, trained=True).MODEL.WEIGHTS
    assert model_zoo.trained_configs() == [CONFIG]
    torch.manual_seed(4)
    model = model_zoo.get(CONFIG, trained=True, device="cpu")
    assert model.training and {p.dtype for p in model.parameters()} == {torch.float32}
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)


def test_a_predictor_from_the_zoo_is_that_of_config_and_checkpoint(trained):
    file, _ = trained
    scene = render_scene(3, (48, 70))[0]
    opts = ["TEST.WINDOW.ENABLED", True, "TEST.WINDOW.SIZE", [32, 32]]
    expected = epl_d2.Predictor.from_config(CONFIGS / CONFIG, file, opts, "cpu")(scene)
    result = epl_d2.Predictor.from_zoo(CONFIG, opts, "cpu")(scene)
    torch.testing.assert_close(result.probabilities, expected.probabilities, rtol=0, atol=0)


def test_another_checkpoint_than_the_zoos_is_refused(trained):
    file, _ = trained
    with pytest.raises(ValueError, match=rf"two checkpoints are given, '{file}' .* MODEL\.WEIGHTS 'mine\.pth'"):
        epl_d2.Predictor.from_zoo(CONFIG, ["MODEL.WEIGHTS", "mine.pth"], "cpu")


def test_configs_without_a_model_say_which_have_one(trained):
    other = "CamVid/semantic_fpn_R_50.yaml"
    for ask in (model_zoo.get_checkpoint_url, epl_d2.Predictor.from_zoo):
        with pytest.raises(FileNotFoundError, match=f"no trained model of {other}; there are models of: {CONFIG}"):
            ask(other)


def test_an_untrained_model_has_the_weights_that_a_training_starts_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"weights/mobilenet_v2\.pth"):
        model_zoo.get("CamVid/deeplab_v3_plus_mobilenet_v2_os16_epl.yaml")
    backbone = model_zoo.get(CONFIG, device="cpu").backbone  # its MODEL.WEIGHTS are ""
    name, weight = next((name, weight) for name, weight in backbone.named_parameters() if weight.dim() == 4)
    started = torch.full_like(weight, 0.25)
    (tmp_path / "weights").mkdir()
    torch.save({"model": {f"backbone.{name}": started}}, tmp_path / "weights" / "mobilenet_v2.pth")
    model = model_zoo.get("CamVid/deeplab_v3_plus_mobilenet_v2_os16_epl.yaml", device="cpu")
    torch.testing.assert_close(model.backbone.get_parameter(name), started, rtol=0, atol=0, check_stride=False)
