"""Detectron2's `SemanticSegmentor` whose head sees the picture and the maps that the loader computed.

Shape shorthand in this module:

    N, K: images of the batch, classes
    H, W: height and width of the batch, padded to the backbone's divisibility
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import ImageList

__all__ = ["EPLSemanticSegmentor"]


@META_ARCH_REGISTRY.register()
class EPLSemanticSegmentor(SemanticSegmentor):
    """`SemanticSegmentor` with the same modules, keys and results.

    Besides the backbone's features the head gets, at stride 1, "image" (the normalized picture, [N, 3, H, W]) and one
    feature for every map of `INPUT.MAPS` that the loader added to the records. The image tells a head the size to
    upsample to; some models, such as GSCNN, look at it.
    """

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """
        Args:
            batched_inputs: a record per image: "image", [3, h, w]; in training "sem_seg", int64 [h, w], and
                "maps", name -> [..., h, w]; optionally "height" and "width" of the wanted result.

        Returns:
            In training the losses by name; otherwise a dict with "sem_seg", logits [K, height, width], per image.
        """
        images = self.batch([record["image"] for record in batched_inputs], normalize=True)
        maps = {
            name: self.batch([record["maps"][name] for record in batched_inputs]).tensor
            for name in batched_inputs[0].get("maps", {})
        }
        if self.training:
            targets = self.batch(
                [record["sem_seg"] for record in batched_inputs], pad_value=self.sem_seg_head.ignore_value
            )
            return self.sem_seg_head(self.features(images.tensor, maps), targets.tensor)[1]
        logits = self.predict(images.tensor, maps)
        results = []
        for result, record, size in zip(logits, batched_inputs, images.image_sizes, strict=True):
            height, width = record.get("height", size[0]), record.get("width", size[1])
            results.append({"sem_seg": sem_seg_postprocess(result, size, height, width)})
        return results

    def predict(self, images: torch.Tensor, maps: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """Logits of normalized images.

        Args:
            images: [N, 3, H, W], normalized; H and W multiples of the backbone's size divisibility.
            maps: the loader's maps of them, if it computed any.

        Returns:
            [N, K, >= H, >= W]; the first H rows and W columns are the image's.
        """
        return self.sem_seg_head(self.features(images, maps or {}))[0]

    def features(self, images: torch.Tensor, maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The backbone's features with the images and the maps beside them."""
        return {**self.backbone(images), "image": images, **maps}

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """A picture [..., 3, H, W] with the mean and standard deviation of the model taken out."""
        return (image - self.pixel_mean) / self.pixel_std

    def batch(self, tensors: list[torch.Tensor], *, normalize: bool = False, pad_value: float = 0.0) -> ImageList:
        """Tensors [..., h, w] on the model's device, padded at the right and bottom to one size."""
        tensors = [tensor.to(self.device) for tensor in tensors]
        if normalize:
            tensors = [self.normalize(tensor) for tensor in tensors]
        return ImageList.from_tensors(
            tensors,
            self.backbone.size_divisibility,
            pad_value,
            padding_constraints=self.backbone.padding_constraints,
        )
