"""What a type checker makes of the public names; `make types` checks it, nothing runs it."""

from __future__ import annotations

import numpy as np
import torch
from typing_extensions import assert_type

import epl_d2
from epl_d2.contours import BoundaryErrors, boundary_errors, contour_line
from epl_d2.evaluation import BoundaryStatistics, boundary_scores
from epl_d2.losses import EPLLoss, LineLoss, line_loss, point_loss, potential_field
from epl_d2.visualization import overlay


def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    assert_type(potential_field(logits, 7, splitter="A"), torch.Tensor)
    assert_type(point_loss(logits, labels, kernel_size=7, norm="l1"), torch.Tensor)
    assert_type(line_loss(logits, labels, mu=2, formulation="contour", ignore_value=-100), torch.Tensor)
    assert_type(LineLoss(kernel_size=9).forward(logits, labels), torch.Tensor)
    assert_type(EPLLoss().forward(logits, labels), dict[str, torch.Tensor])
    point_loss(logits, labels, kernel_size="7")  # type: ignore[arg-type]
    return torch.stack(list(EPLLoss()(logits, labels).values())).sum()


def scores(prediction: np.ndarray, target: np.ndarray) -> None:
    statistics = BoundaryStatistics(num_classes=11, widths=[1, 3])
    statistics.update(prediction, target)
    statistics.merge(BoundaryStatistics(11, (1, 3)))
    assert_type(float(statistics.compute()["boundary_f"][0]), float)
    assert_type(boundary_errors(prediction, target), BoundaryErrors)
    contour_line(target)
    boundary_scores(prediction, target, 11)


def models(picture: np.ndarray) -> np.ndarray:
    assert_type(epl_d2.__version__, str)
    assert_type(epl_d2.model_zoo.get_config_file("CamVid/x.yaml"), str)
    assert_type(epl_d2.model_zoo.get("CamVid/x.yaml", trained=True), torch.nn.Module)
    predictor = epl_d2.Predictor.from_zoo("CamVid/x.yaml", device="cpu")
    result = predictor("street.jpg")
    assert_type(result.labels, np.ndarray)
    assert_type(result.classes, tuple[str, ...])
    overlay(picture, result.labels, result.palette)
    return result.draw(legend=False)
