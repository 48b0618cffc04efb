"""What the meta-architecture hands to its head."""

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from epl_d2.modeling import EPLSemanticSegmentor


class Strided(Backbone):
    size_divisibility = 4

    def forward(self, image):
        return {"res": image[..., ::4, ::4]}

    def output_shape(self):
        return {"res": ShapeSpec(channels=3, stride=4)}


class Recording(nn.Module):
    """A head that gives back, as its losses, what it gets."""

    ignore_value = 254

    def forward(self, features, targets):
        return None, {**features, "targets": targets}


def test_a_batch_of_several_sizes_is_padded_with_ignored_pixels():
    model = EPLSemanticSegmentor(
        backbone=Strided(), sem_seg_head=Recording(), pixel_mean=[10.0, 20.0, 30.0], pixel_std=[1.0, 2.0, 5.0]
    ).train()
    sizes = (5, 6), (7, 3)
    records = [
        {
            "image": torch.full((3, *size), 40, dtype=torch.uint8),
            "sem_seg": torch.full(size, index),
            "maps": {"canny": torch.full((1, *size), 255, dtype=torch.uint8)},
        }
        for index, size in enumerate(sizes)
    ]
    seen = model(records)
    assert seen.keys() == {"res", "image", "canny", "targets"}
    assert seen["res"].shape == (2, 3, 2, 2)
    for index, (height, width) in enumerate(sizes):
        inside = torch.zeros(8, 8, dtype=torch.bool)
        inside[:height, :width] = True
        assert torch.equal(seen["targets"][index], torch.full((8, 8), 254).masked_fill(inside, index))
        assert torch.equal(seen["canny"][index, 0], 255 * inside.to(torch.uint8))
        for channel, value in enumerate((30.0, 10.0, 2.0)):  # normalized; beyond the picture is the mean, 0
            assert torch.equal(seen["image"][index, channel], value * inside)
