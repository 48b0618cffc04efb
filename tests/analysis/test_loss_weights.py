"""Weights by gradient size against autograd on the logits."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from epl_d2 import get_cfg
from epl_d2.analysis.cost import synthetic_batch
from epl_d2.analysis.gradients import analyze_gradients
from epl_d2.analysis.loss_weights import added_losses, check_sizes, weights_for_sizes, with_unit_weights
from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.shapes import write_shapes
from epl_d2.engine import Trainer
from epl_d2.losses import line_loss, lovasz_softmax_loss

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "CamVid" / "semantic_fpn_mobilenet_v2_c64_240_2400_bs4.yaml"
LINE, LOVASZ = "MODEL.EPL.LINE.WEIGHT", "MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT"


def config(*opts):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 4),
            *("MODEL.EPL.ENABLED", True, "MODEL.EPL.POINT.WEIGHT", 0.0, "MODEL.EPL.LINE.MU", 2, *opts),
        ]
    )
    return cfg


def model_of(cfg):
    torch.manual_seed(0)
    return Trainer.build_model(cfg)


def test_the_weights_give_the_sizes():
    sizes = {LINE: 1.5, LOVASZ: 0.5}
    cfg = with_unit_weights(config(LINE, 7.0, "MODEL.EPL.START_ITER", 100), sizes)
    model, batches = model_of(cfg), [synthetic_batch(cfg, 2, (64, 64), seed=seed) for seed in (0, 1)]
    weights = weights_for_sizes(model, batches, sizes, added_losses(cfg))

    totals = torch.zeros(3)
    for batch in batches:
        with torch.no_grad():
            images = model.eval().batch([record["image"] for record in batch], normalize=True).tensor
            logits = model.predict(images)[..., :64, :64]
        logits.requires_grad_()
        labels = torch.stack([record["sem_seg"] for record in batch])
        terms = (
            torch.nn.functional.cross_entropy(logits, labels, ignore_index=255),
            line_loss(logits, labels, mu=2, formulation="contour"),
            lovasz_softmax_loss(logits, labels),
        )
        totals += torch.stack([torch.autograd.grad(term, logits)[0].abs().sum() for term in terms])
    assert weights[LINE] == pytest.approx(float(1.5 * totals[0] / totals[1]), rel=1e-4)
    assert weights[LOVASZ] == pytest.approx(float(0.5 * totals[0] / totals[2]), rel=1e-4)

    cfg.merge_from_list([part for pair in weights.items() for part in pair])
    terms, _ = analyze_gradients(model_of(cfg), batches, ())
    found = {term.name: term.magnitude for term in terms}
    assert found["loss_epl_line"] == pytest.approx(1.5, rel=1e-5)
    assert found["loss_lovasz"] == pytest.approx(0.5, rel=1e-5)


def test_a_loss_without_gradient_is_named():
    cfg = with_unit_weights(config(), {LINE: 1.5})
    batch = synthetic_batch(cfg, 1, (64, 64), seed=0)
    batch[0]["sem_seg"][:] = 2  # one class: there are no lines
    with pytest.raises(
        ValueError, match=r"loss_epl_line \(MODEL\.EPL\.LINE\.WEIGHT\) the size 1\.5: its gradient is zero"
    ):
        weights_for_sizes(model_of(cfg), [batch], {LINE: 1.5}, added_losses(cfg))


@pytest.mark.parametrize(
    ("sizes", "opts", "message"),
    [
        (
            {"MODEL.EPL.LINE.MU": 1.0},
            (),
            "a size is given for MODEL.EPL.LINE.MU; it may be given for MODEL.EPL.POINT.W",
        ),
        ({LINE: 1.0}, ("MODEL.EPL.ENABLED", False), "MODEL.EPL.LINE.WEIGHT, but MODEL.EPL.ENABLED is False"),
        ({LOVASZ: 0.0}, (), "LOVASZ.WEIGHT is 0.0, expected a positive number"),
        ({LOVASZ: float("nan")}, (), "expected a positive number"),
    ],
)
def test_wrong_sizes_are_named(sizes, opts, message):
    with pytest.raises(ValueError, match=message):
        check_sizes(config(*opts), sizes)


def test_a_key_with_two_sizes_is_named(tmp_path, monkeypatch, capsys):
    """Before anything is read: there is no such config file."""
    command = ["tool", "--config-file", str(tmp_path / "none.yaml"), "--sizes", f"{LOVASZ}=1", f"{LINE}=0.5"]
    monkeypatch.setattr(sys, "argv", [*command, f"{LINE}=5"])
    assert tool_of_weights().main() == 1
    assert capsys.readouterr().err == f"error: --sizes has {LINE} twice; which of its sizes is meant?\n"


def tool_of_weights():
    spec = importlib.util.spec_from_file_location("find_loss_weights", ROOT / "tools" / "find_loss_weights.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.slow
def test_the_tool_writes_what_it_finds(tmp_path, monkeypatch, capsys):
    write_shapes(str(tmp_path / "datasets" / "shapes"), train=4, val=1, size=(48, 48), seed=0)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    register_all_datasets()
    tool = tool_of_weights()
    file = tmp_path / "out" / "weights.json"
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
    opts += [
        "MODEL.SEM_SEG_HEAD.CONVS_DIM",
        "8",
        "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS",
        "8",
        "INPUT.CROP.SIZE",
        "[48, 48]",
    ]
    command = ["tool", "--config-file", str(ROOT / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2.yaml")]
    command += ["--batches", "1", "--output", str(file), "--sizes"]
    try:
        monkeypatch.setattr(sys, "argv", [*command, f"{LOVASZ}=0.5", "--opts", *opts])
        assert tool.main() == 0
        record = json.loads(file.read_text())
        assert record["sizes"] == {LOVASZ: 0.5} and record["weights"][LOVASZ] > 0
        assert f"{LOVASZ} {record['weights'][LOVASZ]:.6g}" in capsys.readouterr().out
        monkeypatch.setattr(sys, "argv", [*command, f"{LOVASZ}=half", "--opts", *opts])
        assert tool.main() == 1
        assert "--sizes takes KEY=NUMBER, got 'MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT=half'" in capsys.readouterr().err
    finally:
        monkeypatch.undo()
        register_all_datasets()
