"""MODEL.WEIGHTS by name: fetched from a server that is a folder here, checked, converted once, or a clear error."""

import hashlib
import logging
from pathlib import Path

import pytest
import torch
import torchvision

from epl_d2.checkpoint import pretrained
from epl_d2.checkpoint.checkpointer import Checkpointer
from epl_d2.checkpoint.conversion import convert_state_dict
from epl_d2.checkpoint.pretrained import NAMED_WEIGHTS, named_weights

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A folder with a file like torchvision's, and its state dict."""
    folder = tmp_path_factory.mktemp("server")
    torch.manual_seed(0)
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    torch.save(state, folder / "file")
    digits = hashlib.sha256((folder / "file").read_bytes()).hexdigest()[:8]
    name = f"mobilenet_v2-{digits}.pth"
    (folder / "file").rename(folder / name)
    return folder, name, state


@pytest.fixture(autouse=True)
def surroundings(served, tmp_path, monkeypatch):
    """An empty cache and an empty current folder."""
    folder, name, _ = served
    monkeypatch.setattr(pretrained, "_SERVER", f"{folder.as_uri()}/")
    for key, fpn in (("weights/mobilenet_v2.pth", False), ("weights/mobilenet_v2_fpn.pth", True)):
        monkeypatch.setitem(NAMED_WEIGHTS, key, pretrained._File(name, fpn=fpn))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "fpn"), [("weights/mobilenet_v2.pth", False), ("./weights/mobilenet_v2_fpn.pth", True)]
)
def test_the_official_file_is_fetched_and_converted_once(served, tmp_path, monkeypatch, path, fpn):
    converted = named_weights(path)
    assert Path(converted).parent == tmp_path / "cache" / "hub" / "checkpoints"
    content = torch.load(converted, weights_only=True)["model"]
    expected = convert_state_dict(served[2], "torchvision", fpn=fpn)
    assert content.keys() == expected.keys()
    assert all(torch.equal(content[name], expected[name]) for name in expected)
    monkeypatch.setattr(pretrained, "_SERVER", "file:///nowhere/")
    written = Path(converted).stat().st_mtime_ns
    assert named_weights(path) == converted and Path(converted).stat().st_mtime_ns == written


def test_a_file_of_that_name_and_other_names_are_left_alone(tmp_path):
    assert named_weights("") == ""
    assert named_weights("weights/other.pth") == "weights/other.pth"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mobilenet_v2.pth").write_bytes(b"mine")
    assert named_weights("weights/mobilenet_v2.pth") == "weights/mobilenet_v2.pth"
    assert not (tmp_path / "cache").exists()


def test_without_a_network_the_error_names_file_and_command(served, monkeypatch):
    monkeypatch.setattr(pretrained, "_SERVER", "http://localhost:9/models/")
    with pytest.raises(FileNotFoundError) as error:
        named_weights("weights/mobilenet_v2_fpn.pth")
    said = str(error.value)
    assert f"http://localhost:9/models/{served[1]} cannot be fetched" in said
    assert f"convert_checkpoint.py --from torchvision --fpn {served[1]} weights/mobilenet_v2_fpn.pth`" in said


def test_another_hash_is_refused(served, tmp_path, monkeypatch):
    _, name, _ = served
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / name).write_bytes(b"the page of a failed download")
    monkeypatch.setattr(pretrained, "_SERVER", f"{(tmp_path / 'server').as_uri()}/")
    with pytest.raises(FileNotFoundError, match="cannot be fetched: invalid hash value"):
        named_weights("weights/mobilenet_v2.pth")
    cache = tmp_path / "cache" / "hub" / "checkpoints"
    assert not [path for path in cache.iterdir() if path.suffix == ".pth"]
    (cache / name).write_bytes(b"cut off")
    with pytest.raises(ValueError, match=rf"{name} is damaged: its SHA-256 does not begin"):
        named_weights("weights/mobilenet_v2.pth")


def test_a_training_begins_with_them(served, caplog):
    backbone = torch.nn.Module()
    backbone.backbone = torch.nn.Module()
    backbone.backbone.features = torchvision.models.mobilenet_v2(weights=None).features[:1]
    with caplog.at_level(logging.INFO, logger="epl_d2"):
        Checkpointer(backbone).load("weights/mobilenet_v2.pth", checkpointables=[])
    loaded = backbone.backbone.features[0][0].weight
    assert torch.equal(loaded, served[2]["features.0.0.weight"])
    assert "weights/mobilenet_v2.pth is not here: taking torchvision's" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"checkpoint weights/mobilenet_v2\.pth does not exist"):
        Checkpointer(backbone).load("weights/mobilenet_v2.pth")  # to go on from is something else


def test_the_names_are_those_of_the_configs():
    text = "\n".join(path.read_text(encoding="utf-8") for path in CONFIGS.glob("Base-*.yaml"))
    assert all(f'WEIGHTS: "{name}"' in text for name in NAMED_WEIGHTS)
    for name in ("weights/resnet50.pth", "weights/resnet101.pth"):
        assert f"--from torchvision {NAMED_WEIGHTS[name].name} {name}" in text
