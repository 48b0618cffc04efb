"""Reading, converting and writing checkpoints."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_backbone

from epl_d2 import get_cfg
from epl_d2.checkpoint import SOURCES, convert_state_dict, read_state_dict, write_checkpoint
from epl_d2.modeling import MobileNetV2

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "convert_checkpoint.py"


class Wrapper(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = MobileNetV2()


class Payload:
    """What a hostile checkpoint would hold: unpickling it runs code."""

    def __reduce__(self):
        return (print, ("unpickled",))


def test_tool_makes_a_checkpoint_that_loads_whole(tmp_path):
    source = tmp_path / "torchvision.pth"
    target = tmp_path / "converted" / "mobilenet_v2.pth"
    theirs = torchvision.models.mobilenet_v2(weights=None)
    torch.save(theirs.state_dict(), source)
    command = [sys.executable, str(TOOL), "--from", "torchvision", str(source), str(target)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "fits the backbone of:\n  configs/" in finished.stdout
    assert "configs/CamVid/deeplab_v3_plus_mobilenet_v2_os16.yaml" in finished.stdout
    assert not any(other in finished.stdout for other in ("R_50", "semantic_fpn", "VOC2012/pytorch_deeplab"))
    assert [p.name for p in target.parent.iterdir()] == ["mobilenet_v2.pth"]

    Wrapper().load_state_dict(read_state_dict(target), strict=True)
    model = Wrapper()
    DetectionCheckpointer(model).load(str(target))
    trunk = {k: v for k, v in theirs.state_dict().items() if not k.startswith(("features.18", "classifier"))}
    assert len(model.state_dict()) == len(trunk)
    for (_, ours), tensor in zip(model.state_dict().items(), trunk.values(), strict=True):
        assert torch.equal(ours, tensor)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("ours.pkl", "OUT is ours.pkl; readers expect another format behind that ending: it may be .pth"),
        ("ours.pyth", "it may be .pth"),
        ("theirs.pth", "OUT is theirs.pth, which is IN"),
        ("../{}/theirs.pth", "which is IN"),
        ("link.pth", "OUT is link.pth, which is IN"),
    ],
)
def test_the_tool_keeps_the_original_and_writes_what_can_be_read(tmp_path, monkeypatch, capsys, output, message):
    monkeypatch.chdir(tmp_path)
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), "theirs.pth")
    Path("link.pth").symlink_to("theirs.pth")
    before = Path("theirs.pth").read_bytes()
    arguments = ["--from", "torchvision", "theirs.pth", output.format(tmp_path.name)]
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.pth", "theirs.pth"]
    assert Path("link.pth").is_symlink() and Path("theirs.pth").read_bytes() == before


def test_backbone_within_a_feature_pyramid():
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / "Base-SemanticFPN-MobileNetV2.yaml"))
    theirs = torchvision.models.mobilenet_v2(weights=None).state_dict()
    converted = convert_state_dict(theirs, "torchvision", fpn=True)
    trunk = {name: t for name, t in build_backbone(cfg).state_dict().items() if name.startswith("bottom_up.")}
    assert {f"backbone.{name}": t.shape for name, t in trunk.items()} == {n: t.shape for n, t in converted.items()}
    plain = convert_state_dict(theirs, "torchvision")
    assert all(torch.equal(a, b) for a, b in zip(converted.values(), plain.values(), strict=True))


def test_a_model_with_a_head_does_not_fit_a_pyramid():
    head = {"sem_seg_head.predictor.weight": torch.ones(1)}
    source = {"with_head": lambda state: {"backbone.stem.weight": torch.ones(1), **head}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epl_d2.checkpoint.conversion.SOURCES", source)
        with pytest.raises(ValueError, match=r"head too \(sem_seg_head.predictor.weight\)"):
            convert_state_dict({}, "with_head", fpn=True)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_wrapped_state_dicts_are_found(tmp_path, wrap):
    tensors = {"a": torch.arange(3), "b": torch.ones(2, 2)}
    torch.save(wrap(tensors), tmp_path / "x.pth")
    assert read_state_dict(tmp_path / "x.pth").keys() == tensors.keys()


def test_objects_are_refused_and_not_run(tmp_path, capsys):
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Payload()}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=r"hostile\.pth is refused"):
        read_state_dict(tmp_path / "hostile.pth")
    assert "unpickled" not in capsys.readouterr().out


def test_files_that_are_no_checkpoints_are_named(tmp_path):
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ValueError, match=r"text\.pth"):
        read_state_dict(tmp_path / "text.pth")
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        read_state_dict(tmp_path / "absent.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty\.pth holds no tensors"):
        read_state_dict(tmp_path / "empty.pth")


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_names_of_a_distributed_model_are_taken_by_every_source(source):
    """Each source sees the same names, or would refuse the prefix and blame the architecture."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, source, lambda state: seen.append(list(state)) or {})
        convert_state_dict({"module.conv1.weight": torch.ones(1), "bn1.bias": torch.ones(1)}, source)
    assert seen == [["conv1.weight", "bn1.bias"]]


def test_foreign_state_dicts_and_sources_are_refused():
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1\.weight"):
        convert_state_dict({"layer1.0.conv1.weight": torch.ones(1)}, "torchvision")
    with pytest.raises(ValueError, match="'keras'"):
        convert_state_dict({}, "keras")


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint({"a": torch.ones(1)}, tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())
