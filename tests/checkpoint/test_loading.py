"""Loading a checkpoint that must fit."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from epl_d2.checkpoint.checkpointer import Checkpointer
from epl_d2.checkpoint.loading import check_fit, load_weights


def model(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))


def same(ours: nn.Module, expected: nn.Module) -> bool:
    pairs = zip(ours.state_dict().values(), expected.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
def test_loads_every_entry(tmp_path, wrap):
    source, target = model(), model()
    torch.save(wrap(source.state_dict()), tmp_path / "model.pth")
    load_weights(target, tmp_path / "model.pth")
    assert same(target, source)


def test_names_of_a_distributed_model(tmp_path):
    source, target = model(), model()
    torch.save({f"module.{name}": value for name, value in source.state_dict().items()}, tmp_path / "model.pth")
    load_weights(target, str(tmp_path / "model.pth"))
    assert same(target, source)


def test_a_state_dict_itself():
    source, target = model(), model()
    load_weights(target, source.state_dict())
    assert same(target, source)
    with pytest.raises(ValueError, match="the state dict is no checkpoint of this model"):
        load_weights(model(5), source.state_dict())


def test_other_dilations_are_said(tmp_path, caplog):
    """They change what a model computes and not the shape of any entry."""
    source, target = (nn.Sequential(nn.Conv2d(3, 4, 3, dilation=d, padding=d), nn.Conv2d(4, 4, 1)) for d in (2, 4))
    Checkpointer(source, str(tmp_path)).save("model_final")
    load_weights(target, tmp_path / "model_final.pth")
    assert "model_final.pth was trained with other strides or dilations" in caplog.text
    assert "in 1 convolutions" in caplog.text
    assert "0: model [1, 1, 4, 4], checkpoint [1, 1, 2, 2]" in caplog.text
    caplog.clear()
    load_weights(source, tmp_path / "model_final.pth")
    assert not caplog.records


@pytest.mark.parametrize(
    ("size", "said"), [((59, 59), r"\[59, 59\]"), ((3, 5), "a height and a width with the product 15")]
)
def test_the_size_of_other_masks_is_named(size, said):
    name = "sem_seg_head.psa.attention_p.3.weight"
    given, wanted = ({name: torch.empty(h * w, 2, 1, 1, device="meta")} for h, w in (size, (71, 71)))
    with pytest.raises(ValueError, match=f"set MODEL.PSA.MASK_SIZE to {said}"):
        check_fit(given, wanted, "psanet.pth")


def test_weights_that_are_not_finite_are_named(tmp_path):
    source = model()
    source[0].weight.data[0] = torch.inf
    torch.save(source.state_dict(), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth holds values that are not finite: 0\.weight"):
        load_weights(model(), tmp_path / "model.pth")


def test_pickles_of_the_model_zoo(tmp_path):
    source, target = model(), model()
    arrays = {name: value.numpy() for name, value in source.state_dict().items() if "tracked" not in name}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}))
    load_weights(target, tmp_path / "model.pkl")
    assert same(target, source)


class Runs:
    def __reduce__(self):
        return print, ("code in the checkpoint runs",)


@pytest.mark.parametrize("name", ["model.pkl", "model.pth"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys, name):
    content = {"model": {"0.weight": np.zeros(3), "x": Runs()}}
    if name.endswith("pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is refused"):
        load_weights(model(), tmp_path / name)
    assert "runs" not in capsys.readouterr().out


def test_shapes_and_names_that_differ_are_listed(tmp_path):
    torch.save(model(5).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(ValueError, match="7 entries differ") as raised:
        load_weights(model(), tmp_path / "wide.pth")
    message = str(raised.value)
    assert "0.weight: model [4, 3, 1, 1], checkpoint [5, 3, 1, 1]" in message
    assert "and 2 more" in message

    state = model().state_dict()
    state["9.weight"] = state.pop("2.bias")
    torch.save(state, tmp_path / "renamed.pth")
    target = model()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ValueError, match="2 entries differ") as raised:
        load_weights(target, tmp_path / "renamed.pth")
    message = str(raised.value)
    assert "2.bias: model [2], not in the checkpoint" in message
    assert "9.weight: not in the model, checkpoint [2]" in message
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize("name", ["nowhere.pth", "nowhere.pkl"])
def test_missing_files(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        load_weights(model(), tmp_path / name)


def test_no_weights_at_all():
    with pytest.raises(ValueError, match=r"MODEL\.WEIGHTS"):
        load_weights(model(), "")


def test_a_file_that_is_no_pickle(tmp_path):
    (tmp_path / "junk.pkl").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.pkl is refused"):
        load_weights(model(), tmp_path / "junk.pkl")
