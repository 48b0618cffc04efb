"""The losses as modules: a function and its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from .arguments import IGNORE_MODES, REDUCTIONS, check_choice, check_ignore_value
from .compared.active_boundary import active_boundary_loss, check_active_boundary_arguments
from .compared.band_cross_entropy import band_cross_entropy, check_band_arguments
from .compared.boundary import boundary_loss
from .compared.boundary_f import boundary_f_loss, check_boundary_f_arguments
from .compared.class_weighted import check_class_weights, class_weighted_cross_entropy
from .compared.generalized_dice import generalized_dice_loss
from .compared.lovasz import check_lovasz_arguments, lovasz_softmax_loss
from .criteria.gscnn import image_weighted_cross_entropy
from .criteria.label_relaxation import check_label_relaxation_arguments, label_relaxation_loss
from .criteria.ohem import check_ohem_arguments, ohem_cross_entropy
from .line import line_loss, line_term
from .modes import MODES
from .point import PointTerm, point_loss

# Settings that several functions have, each with one meaning -> their checks.
_COMMON_CHECKS: dict[str, Callable[[object], None]] = {
    "ignore_value": check_ignore_value,
    "ignore_mode": partial(check_choice, "ignore_mode", choices=IGNORE_MODES),
    "mode": partial(check_choice, "mode", choices=MODES),
    "reduction": partial(check_choice, "reduction", choices=REDUCTIONS),
}


class FunctionLoss(nn.Module):
    """Base of a module that calls a loss function. No parameters, no buffers.

    Args:
        settings: keyword arguments of the function; those left out keep its defaults.

    Raises:
        TypeError: the function has no such argument.
        ValueError: a setting is out of range.
    """

    function: ClassVar[Callable[..., Tensor]]
    # Called with the settings that it takes, those of the function alone; raises a ValueError for one out of range.
    check: ClassVar[Callable[..., Any]] = staticmethod(lambda: None)

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        parameters = inspect.signature(self.function).parameters.values()
        defaults = {x.name: x.default for x in parameters if x.kind is inspect.Parameter.KEYWORD_ONLY}
        unknown = [name for name in settings if name not in defaults]
        if unknown:
            raise TypeError(f"{type(self).__name__} has no setting {unknown[0]!r}; it has {', '.join(defaults)}")
        self.settings = defaults | settings
        for name, check in _COMMON_CHECKS.items():
            if name in self.settings:
                check(self.settings[name])
        checked = inspect.signature(self.check).parameters
        self.check(**{name: value for name, value in self.settings.items() if name in checked})

    def forward(self, *inputs: Tensor) -> Tensor:
        """The loss of logits, labels and, where the function takes one, a map."""
        return self.function(*inputs, **self.settings)

    def extra_repr(self) -> str:
        """The settings, for ``print(model)``."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class PointLoss(FunctionLoss):
    """`point_loss` as a module.

    Example:
        >>> PointLoss(kernel_size=5)(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long)).item()
        2.25
    """

    function = staticmethod(point_loss)
    check = PointTerm


class LineLoss(FunctionLoss):
    """`line_loss` as a module.

    Example:
        >>> labels = torch.eye(8, dtype=torch.long)[None]
        >>> round(LineLoss(mu=2)(100.0 * torch.stack((1 - labels, labels), dim=1), labels).item(), 3)
        0.0
    """

    function = staticmethod(line_loss)
    check = staticmethod(line_term)


class GeneralizedDiceLoss(FunctionLoss):
    """`generalized_dice_loss` as a module."""

    function = staticmethod(generalized_dice_loss)


class BoundaryLoss(FunctionLoss):
    """`boundary_loss` as a module; it is called with logits, labels and signed distances."""

    function = staticmethod(boundary_loss)


class ActiveBoundaryLoss(FunctionLoss):
    """`active_boundary_loss` as a module; it is called with logits, labels and distances to the contour."""

    function = staticmethod(active_boundary_loss)
    check = staticmethod(check_active_boundary_arguments)


class BandCrossEntropy(FunctionLoss):
    """`band_cross_entropy` as a module; it is called with logits, labels and distances to the contour."""

    function = staticmethod(band_cross_entropy)
    check = staticmethod(check_band_arguments)


class BoundaryFLoss(FunctionLoss):
    """`boundary_f_loss` as a module."""

    function = staticmethod(boundary_f_loss)
    check = staticmethod(check_boundary_f_arguments)


class ClassWeightedCrossEntropy(FunctionLoss):
    """`class_weighted_cross_entropy` as a module."""

    function = staticmethod(class_weighted_cross_entropy)
    check = staticmethod(check_class_weights)


class LovaszSoftmaxLoss(FunctionLoss):
    """`lovasz_softmax_loss` as a module."""

    function = staticmethod(lovasz_softmax_loss)
    check = staticmethod(check_lovasz_arguments)


class OHEMCrossEntropy(FunctionLoss):
    """`ohem_cross_entropy` as a module."""

    function = staticmethod(ohem_cross_entropy)
    check = staticmethod(check_ohem_arguments)


class LabelRelaxationLoss(FunctionLoss):
    """`label_relaxation_loss` as a module."""

    function = staticmethod(label_relaxation_loss)
    check = staticmethod(check_label_relaxation_arguments)


class ImageWeightedCrossEntropy(FunctionLoss):
    """`image_weighted_cross_entropy` as a module."""

    function = staticmethod(image_weighted_cross_entropy)
