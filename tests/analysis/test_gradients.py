"""Gradients of the loss terms against autograd, formulas and brute force."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.utils.events import EventStorage

from epl_d2 import get_cfg
from epl_d2.analysis.cost import synthetic_batch
from epl_d2.analysis.gradients import analyze_gradients
from epl_d2.data.shapes import write_shapes
from epl_d2.engine import Trainer
from epl_d2.losses import EPLLoss

ROOT = Path(__file__).parents[2]
SIZE = (64, 64)
WIDTHS = (1, 3)


def small_model(config: str, *opts):
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / config))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 4, *opts])
    torch.manual_seed(0)
    return cfg, Trainer.build_model(cfg)


def batches_of(cfg, count: int):
    batches = [synthetic_batch(cfg, 2, SIZE, seed=seed) for seed in range(count)]
    batches[0][0]["sem_seg"][:, :20] = 255
    return batches


def logits_and_labels(model, batch):
    model.eval()
    with torch.no_grad():
        images = model.batch([record["image"] for record in batch], normalize=True).tensor
        logits = model.predict(images)[..., : SIZE[0], : SIZE[1]]
    return logits, torch.stack([record["sem_seg"] for record in batch])


def near_contours(labels: np.ndarray, width: int) -> np.ndarray:
    """Literally: less than `width` from a pixel that has a 4-neighbor of another class."""
    height, breadth = labels.shape
    contour = [
        (y, x)
        for y in range(height)
        for x in range(breadth)
        for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1))
        if 0 <= v < height and 0 <= u < breadth and labels[y, x] != labels[v, u] and 255 not in labels[[y, v], [x, u]]
    ]
    rows, columns = np.mgrid[:height, :breadth]
    ys, xs = np.array(contour).T[:, :, None, None]
    return ((rows - ys) ** 2 + (columns - xs) ** 2).min(axis=0) < width**2


def test_equals_the_formula_of_cross_entropy_and_autograd_of_epl():
    cfg, model = small_model(
        "CamVid/semantic_fpn_mobilenet_v2_c64_240_2400_bs4_epl.yaml",
        *("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 0.5, "MODEL.EPL.POINT.WEIGHT", 0.3, "MODEL.EPL.LINE.WEIGHT", 0.0),
    )
    batches = batches_of(cfg, 2)
    terms, pixels = analyze_gradients(model, batches, WIDTHS)
    assert [term.name for term in terms] == ["loss_sem_seg", "loss_epl_point", "loss_epl_line"]
    criterion, point, line = terms
    assert (line.value, line.magnitude, line.share, line.cosine) == (0, 0, (0, 0), 0)

    gradients = {"criterion": [], "point": []}
    values, masks, valid = [], [], []
    for batch in batches:
        logits, labels = logits_and_labels(model, batch)
        known = labels != 255
        one_hot = F.one_hot(labels * known, 4).permute(0, 3, 1, 2)
        difference = (logits.softmax(dim=1) - one_hot) * known[:, None]
        gradients["criterion"].append(0.5 * difference / known.sum())
        logits.requires_grad_()
        loss = EPLLoss(point_weight=0.3, line_weight=0)(logits, labels)["loss_epl_point"]
        gradients["point"].append(torch.autograd.grad(loss, logits)[0])
        values.append(float(loss.detach()))
        masks.append(np.stack([[near_contours(label, width) for width in WIDTHS] for label in labels.numpy()]))
        valid.append(known.numpy())
    per_pixel = {name: np.concatenate([g.abs().sum(dim=1).numpy() for g in gs]) for name, gs in gradients.items()}
    masks, valid = np.concatenate(masks), np.concatenate(valid)
    near = {name: [g[masks[:, i]].sum() for i in range(2)] for name, g in per_pixel.items()}
    totals = {name: g.sum() for name, g in per_pixel.items()}

    assert criterion.magnitude == 1 and criterion.magnitude_at_contours == (1, 1)
    assert criterion.cosine == pytest.approx(1)
    assert criterion.share == pytest.approx([n / totals["criterion"] for n in near["criterion"]], rel=1e-4)
    assert point.value == pytest.approx(np.mean(values), rel=1e-5)
    assert point.magnitude == pytest.approx(totals["point"] / totals["criterion"], rel=1e-4)
    assert point.magnitude_at_contours == pytest.approx(
        [a / b for a, b in zip(near["point"], near["criterion"], strict=True)], rel=1e-4
    )
    assert point.share == pytest.approx([n / totals["point"] for n in near["point"]], rel=1e-4)
    flat = {name: torch.cat([g.flatten() for g in gs]).double() for name, gs in gradients.items()}
    assert point.cosine == pytest.approx(float(F.cosine_similarity(flat["point"], flat["criterion"], dim=0)), rel=1e-4)
    assert pixels == pytest.approx([(masks[:, i] & valid).sum() / valid.sum() for i in range(2)])


def test_leaves_the_model_as_it_was():
    cfg, model = small_model("CamVid/semantic_fpn_mobilenet_v2_c64_240_2400_bs4_epl.yaml")
    model.train()
    model.backbone.bottom_up.features[5].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    batches = batches_of(cfg, 1)
    first = analyze_gradients(model, batches, WIDTHS)
    assert first == analyze_gradients(model, batches, WIDTHS)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert all(parameter.grad is None for parameter in model.parameters())
    with EventStorage(0):
        sum(model(batches[0]).values()).backward()
    assert model.sem_seg_head.predictor.weight.grad is not None


def test_auxiliary_branches_are_left_out_and_gscnn_takes_part():
    cfg, model = small_model("CamVid/pspnet_mobilenet_v2_os16_c128_240_200_bs4_epl.yaml")
    terms, _ = analyze_gradients(model, batches_of(cfg, 1), WIDTHS)
    assert {term.name for term in terms} == {"loss_sem_seg", "loss_epl_point", "loss_epl_line"}
    cfg, model = small_model("CamVid/gscnn_mobilenet_v2_os16_c64_240_200_bs4_epl.yaml")
    terms, _ = analyze_gradients(model, batches_of(cfg, 1), WIDTHS)
    names = {term.name for term in terms}
    assert {"loss_sem_seg", "loss_epl_point", "loss_epl_line", "loss_dual_task"} <= names
    assert "loss_edge" not in names  # a loss of the shape stream alone


def test_nothing_to_look_at_is_an_error():
    cfg, model = small_model("CamVid/semantic_fpn_mobilenet_v2_c64_240_2400_bs4.yaml")
    with pytest.raises(ValueError, match="no gradient to look at in 0 batches"):
        analyze_gradients(model, [], WIDTHS)
    batches = batches_of(cfg, 1)
    for record in batches[0]:
        record["sem_seg"][:] = 255
    with pytest.raises(ValueError, match="are all pixels ignored"):
        analyze_gradients(model, batches, WIDTHS)


def test_tool_prints_a_row_for_each_term(tmp_path):
    write_shapes(str(tmp_path / "shapes"), train=2, val=1, size=(64, 64), seed=0)
    command = [sys.executable, str(ROOT / "tools" / "analyze_gradients.py"), "--batches", "1", "--widths", "2"]
    config = ROOT / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2_epl.yaml"
    opts = ["MODEL.DEVICE", "cpu", "MODEL.EXTRA_LOSSES.GENERALIZED_DICE.WEIGHT", "1.0", "INPUT.CROP.SIZE", "[64,64]"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}
    command += ["--config-file", str(config), "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", *opts]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows == ["term", "---", "loss_sem_seg", "loss_epl_point", "loss_epl_line", "loss_generalized_dice"]
    assert "labeled pixels: " in done.stdout
