"""Weights to begin with: what a training takes, and in which words it refuses."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from epl_d2.checkpoint.checkpointer import Checkpointer


class Runs:
    def __reduce__(self):
        return print, ("code in the checkpoint runs",)


def model(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))


def load(path, target=None, *, resume=False):
    Checkpointer(target or model()).load(str(path), None if resume else [])


def state(**changes):
    return {name: torch.ones_like(value) for name, value in model().state_dict().items()} | changes


def page():
    return b"<!DOCTYPE html><html>404</html>"


# name of the file -> (how it is made, what the error says beside the name)
REFUSED = {
    "empty.pth": (lambda path: path.write_bytes(b""), "it is empty"),
    "empty.pkl": (lambda path: path.write_bytes(b""), "it is empty"),
    "page.pth": (lambda path: path.write_bytes(page()), "failed download"),
    "page.pkl": (lambda path: path.write_bytes(page()), "failed download"),
    "pointer.pth": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "half.pth": (lambda path: (torch.save(state(), path), path.write_bytes(path.read_bytes()[:900])), "damaged"),
    "half.pkl": (lambda path: path.write_bytes(pickle.dumps({"a": np.ones(99)})[:-80]), "truncated"),
    "code.pth": (lambda path: torch.save({"model": {"x": Runs()}}, path), "could run code"),
    "code.pkl": (lambda path: path.write_bytes(pickle.dumps({"model": Runs(), "__author__": ""})), "could run code"),
    "model.pkl": (lambda path: path.write_bytes(pickle.dumps(nn.ReLU())), "could run code"),
    "list.pth": (lambda path: torch.save([1], path), "holds a list; a dict of tensors by name was expected"),
    "number.pth": (lambda path: torch.save({"model": {"0.weight": 3}}, path), "0.weight"),
    "keys.pth": (
        lambda path: torch.save({"layer.weight": torch.ones(1)}, path),
        "none of its 1 entries (layer.weight [1]) fits one of the 8 of the model (0.weight [4, 3, 1, 1], ",
    ),
    "nothing.pth": (lambda path: torch.save({"model": {}}, path), "none of its 0 entries (none) fits"),
    "sizes.pth": (
        lambda path: torch.save({"0.weight": torch.ones(5, 3, 1, 1)}, path),
        "none of its 1 entries (0.weight [5, 3, 1, 1]) fits",
    ),
    "nan.pth": (
        lambda path: torch.save(state(**{"1.running_var": torch.full((4,), float("nan"))}), path),
        "not finite: 1.running_var",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_file_and_what_it_is(tmp_path, capsys, name):
    make, expected = REFUSED[name]
    make(tmp_path / name)
    target = model()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(ValueError) as refused:
        load(tmp_path / name, target)
    message = str(refused.value)
    assert str(tmp_path / name) in message and expected in message
    assert "\n" not in message
    assert "code in the checkpoint runs" not in capsys.readouterr().out
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:9/weights.pth", "cannot be fetched: "),
        ("catalog://NoSuchModel", "cannot be fetched: "),
        ("cloud://bucket/weights.pth", "addresses that begin with cloud:// are not known here"),
        ("nowhere/weights.pth", "does not exist"),
    ],
)
def test_addresses_that_lead_nowhere_are_named(address, expected):
    with pytest.raises(FileNotFoundError) as refused:
        load(address)
    assert address in str(refused.value) and expected in str(refused.value)


def test_what_fits_is_taken_and_the_rest_is_said_in_one_line(tmp_path, caplog):
    entries = state(**{"2.weight": torch.ones(9, 4, 1, 1), "fc.weight": torch.ones(1)})
    del entries["1.bias"]
    torch.save({"model": entries}, tmp_path / "part.pth")
    target = model()
    load(tmp_path / "part.pth", target)
    assert torch.equal(target[0].weight, torch.ones(4, 3, 1, 1))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1
    for part in (
        str(tmp_path / "part.pth"),
        "1 of another size (2.weight)",
        "1 of the model not in the file (1.bias)",
        "1 of the file not in the model (fc.weight)",
    ):
        assert part in said[0]


def test_going_on_takes_a_checkpoint_of_this_model_alone(tmp_path):
    entries = state()
    del entries["1.bias"]
    torch.save({"model": entries}, tmp_path / "model_0000001.pth")
    with pytest.raises(
        ValueError, match=r"0000001\.pth is no checkpoint of this model.*\s+1\.bias.*not in the checkpoint"
    ):
        load(tmp_path / "model_0000001.pth", resume=True)


def test_zoo_files_of_detectron2_and_caffe2_load(tmp_path):
    arrays = {name: value.numpy() for name, value in state().items()}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}, protocol=2))
    target = model()
    load(tmp_path / "zoo.pkl", target)
    assert torch.equal(target[2].bias, torch.ones(2))

    class Caffe2(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 1)))

    blobs = {"conv1_w": np.full((4, 3, 1, 1), 2, np.float32), "conv1_b": np.ones(4, np.float32), "lr": np.ones(1)}
    blobs["conv1_w_momentum"] = blobs["conv1_w"]
    (tmp_path / "caffe2.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    target = Caffe2()
    load(tmp_path / "caffe2.pkl", target)
    assert torch.equal(target.stem.conv1.weight, torch.full((4, 3, 1, 1), 2.0))
