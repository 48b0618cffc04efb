"""A trained segmentor as a module of pictures of one size, without what only training uses."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from .pooling import replace_pooling

__all__ = ["OUTPUTS", "PictureSegmentor"]

OUTPUTS = ("logits", "labels")


class PictureSegmentor(nn.Module):
    """Normalization, padding, the model and the cut to the picture's size in one `forward`.

    It holds a copy of the model, without the losses and the branches of the head that only training uses, so that
    nothing of EPL can reach an exported file.
    """

    def __init__(self, model: nn.Module, *, input_format: str = "RGB", output: str = "logits"):
        """
        Args:
            model: an `EPLSemanticSegmentor`.
            input_format: order of the channels that the model was trained with, INPUT.FORMAT: "RGB" or "BGR".
            output: "logits", or "labels" for the class of the largest logit.

        Raises:
            ValueError: an argument is none of these.
        """
        super().__init__()
        if input_format not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT is {input_format!r}; models for 'RGB' and 'BGR' can be exported")
        if output not in OUTPUTS:
            raise ValueError(f"output is {output!r}, expected one of {OUTPUTS}")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.reverse_channels = input_format == "BGR"
        self.output = output
        self.divisor = max(1, self.model.backbone.size_divisibility)
        self._drop_training_branches()
        replace_pooling(self.model)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Args:
            image: [N, 3, H, W], RGB in 0..255, uint8 or float32.

        Returns:
            Logits [N, K, H, W], or labels, int64 [N, H, W].
        """
        if self.reverse_channels:
            image = torch.flip(image, [1])
        x = (image.float() - self.model.pixel_mean) / self.model.pixel_std
        height, width = x.shape[-2:]
        if self.divisor > 1:
            x = F.pad(x, (0, self._missing(width), 0, self._missing(height)))
        logits = self.model.predict(x)[..., :height, :width]
        return logits if self.output == "logits" else logits.argmax(dim=1)

    def _missing(self, length: int) -> int:
        return (length + self.divisor - 1) // self.divisor * self.divisor - length

    def _drop_training_branches(self) -> None:
        """Remove the parts of the head that a prediction does not call."""
        head = self.model.sem_seg_head
        called: set[nn.Module] = set()
        hooks = [m.register_forward_hook(lambda module, *_: called.add(module)) for m in head.modules()]
        size = 2 * max(32, self.divisor)
        with torch.no_grad():
            self.model.predict(torch.zeros(1, 3, size, size, device=self.model.device))
        for hook in hooks:
            hook.remove()
        for name, child in list(head.named_children()):
            if not any(module in called for module in child.modules()):
                delattr(head, name)
