"""The losses of Equipotential Learning, in pure PyTorch: usable without Detectron2 in any project."""

from .epl import EPLLoss
from .line import line_loss
from .point import point_loss
from .potential import potential_field

__all__ = ["EPLLoss", "line_loss", "point_loss", "potential_field"]
