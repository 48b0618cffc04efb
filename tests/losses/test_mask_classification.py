"""EPL in the criteria of other projects, shown by modules with their interfaces."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epl_d2.losses import EPLLoss, matched_masks

DOCUMENT = Path(__file__).parents[2] / "docs" / "losses.md"
INDICES = [(torch.tensor([4, 0]), torch.tensor([1, 0])), (torch.tensor([2]), torch.tensor([2]))]


class SetCriterion(nn.Module):
    """A criterion with the interface of MaskFormer's and Mask2Former's, whose matcher is told what to answer."""

    def __init__(self, indices: list[tuple[Tensor, Tensor]], weight_dict: dict[str, float]) -> None:
        super().__init__()
        self.indices, self.weight_dict = indices, weight_dict

    def loss_masks(self, outputs: dict, targets: list[dict], indices: list, num_masks: float) -> dict[str, Tensor]:
        queries = torch.cat([masks[i] for masks, (i, _) in zip(outputs["pred_masks"], indices, strict=True)])
        objects = torch.cat([target["masks"][j] for target, (_, j) in zip(targets, indices, strict=True)])
        queries = F.interpolate(queries[:, None], size=objects.shape[-2:], mode="bilinear")[:, 0]
        loss = F.binary_cross_entropy_with_logits(queries, objects.float(), reduction="none")
        return {"loss_mask": loss.mean((1, 2)).sum() / num_masks}

    def forward(self, outputs: dict, targets: list[dict]) -> dict[str, Tensor]:
        losses = self.loss_masks(outputs, targets, self.indices, max(1, sum(len(i) for i, _ in self.indices)))
        for i, auxiliary in enumerate(outputs["aux_outputs"]):
            found = self.loss_masks(auxiliary, targets, self.indices, 1)
            losses.update({f"{name}_{i}": value for name, value in found.items()})
        return losses


def train_step(criterion: SetCriterion, outputs: dict, targets: list[dict]) -> dict[str, Tensor]:
    """What the meta-architectures do with the losses."""
    losses = criterion(outputs, targets)
    for name in list(losses):
        if name in criterion.weight_dict:
            losses[name] *= criterion.weight_dict[name]
        else:
            losses.pop(name)
    return losses


@pytest.fixture
def documented() -> type[SetCriterion]:
    """The criterion of the document, on top of the one above."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
    (block,) = (block for block in blocks if "SetCriterion" in block)
    names = {"SetCriterion": SetCriterion}
    exec(block, names)
    return names["EPLSetCriterion"]


@pytest.fixture
def batch(scene: Callable) -> tuple[dict, list[dict]]:
    """What MaskFormer's criterion is called with: 5 queries, objects padded to 64 x 64."""
    _, labels = scene((2, 5, 64, 64))
    targets = [{"masks": torch.stack([label == k for k in range(3)])} for label in labels]
    generator = torch.Generator().manual_seed(0)
    outputs = {"pred_masks": torch.randn(2, 5, 16, 16, generator=generator, requires_grad=True)}
    outputs["aux_outputs"] = [{"pred_masks": torch.randn(2, 5, 16, 16, generator=generator, requires_grad=True)}]
    return outputs, targets


def test_the_documented_criterion(documented: type[SetCriterion], batch: tuple) -> None:
    outputs, targets = batch
    names = ["loss_mask", "loss_epl_point", "loss_epl_line", "loss_mask_0", "loss_epl_line_0"]
    criterion = documented(INDICES, dict.fromkeys(names, 0.5))
    losses = train_step(criterion, outputs, targets)
    assert list(losses) == names
    # Objects at the middle of each 4 x 4 cell, where the logits lie.
    masks = torch.stack([targets[0]["masks"][1], targets[0]["masks"][0], targets[1]["masks"][2]])[:, 2::4, 2::4]
    for output, name in ((outputs, "loss_epl_line"), (outputs["aux_outputs"][0], "loss_epl_line_0")):
        predicted = output["pred_masks"]
        logits = torch.stack([predicted[0, 4], predicted[0, 0], predicted[1, 2]])
        expected = EPLLoss(mode="binary", line_kernel_size=3)(logits, masks)["loss_epl_line"]
        torch.testing.assert_close(losses[name], 0.5 * expected)
    sum(losses.values()).backward()
    touched = outputs["pred_masks"].grad.flatten(2).any(-1)
    assert touched.tolist() == [[True, False, False, False, True], [False, False, True, False, False]]


def test_nothing_is_matched(documented: type[SetCriterion], batch: tuple) -> None:
    outputs, targets = batch
    nothing = torch.zeros(0, dtype=torch.long)
    criterion = documented([(nothing, nothing)] * 2, {"loss_epl_line": 1.0})
    losses = train_step(criterion, outputs, targets)
    assert losses["loss_epl_line"] == 0
    losses["loss_epl_line"].backward()
    assert not outputs["pred_masks"].grad.any()


def test_padding_is_ignored() -> None:
    """Pictures of different sizes, and masks that were padded with 0 before."""
    pred_masks = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    objects = [torch.ones(2, 20, 32, dtype=torch.uint8), torch.ones(3, 32, 24, dtype=torch.uint8)]
    logits, targets = matched_masks(pred_masks, objects, INDICES)
    assert torch.equal(logits, torch.stack([pred_masks[0, 4], pred_masks[0, 0], pred_masks[1, 2]]))
    assert targets.shape == (3, 32, 32)
    assert (targets[:2, :20] == 1).all() and (targets[:2, 20:] == 255).all()
    assert (targets[2, :, :24] == 1).all() and (targets[2, :, 24:] == 255).all()
    # No contour is left: an object that fills a picture has none at the padding.
    losses = EPLLoss(mode="binary", resize_logits=True)(logits, targets)
    assert losses["loss_epl_line"] == 0

    padded = [F.pad(objects[0], (0, 0, 0, 12)).bool(), F.pad(objects[1], (0, 8)).bool()]
    _, of_sizes = matched_masks(pred_masks, padded, INDICES, image_sizes=[(20, 32), (32, 24)], ignore_value=-100)
    assert torch.equal(of_sizes, targets.masked_fill(targets == 255, -100))
    assert matched_masks(pred_masks, padded, INDICES)[1].dtype == torch.bool
    assert matched_masks(pred_masks, padded, INDICES, image_sizes=[(9, 9)] * 2, ignore_value=70000)[1].max() == 70000


@pytest.mark.parametrize("seed", range(40))
def test_drawn_batches_against_loops(seed: int) -> None:
    """Any numbers of pictures, matches and pixels, none among them; objects of any type, cut off at drawn sizes."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    batch, queries = drawn(1, 4), drawn(1, 6)
    pred_masks = torch.randn(batch, queries, drawn(1, 5), drawn(1, 5), generator=generator)
    dtype = (torch.bool, torch.uint8, torch.float32)[seed % 3]
    objects, indices = [], []
    for _ in range(batch):
        count, height, width = drawn(0, 5), drawn(1, 9), drawn(1, 9)
        objects.append(torch.randint(0, 2, (count, height, width), generator=generator).to(dtype))
        matched = drawn(0, min(queries, count) + 1)
        indices.append(tuple(torch.randperm(total, generator=generator)[:matched] for total in (queries, count)))
    canvas = [max(masks.shape[axis] for masks in objects) for axis in (1, 2)]
    image_sizes = [(drawn(1, canvas[0] + 1), drawn(1, canvas[1] + 1)) for _ in range(batch)]
    sizes = image_sizes if seed % 2 else None
    logits, targets = matched_masks(pred_masks, objects, indices, image_sizes=sizes, ignore_value=7)

    height, width = canvas
    assert targets.shape == (sum(len(i) for i, _ in indices), height, width)
    row = 0
    for image, (chosen, found) in enumerate(indices):
        for query, number in zip(chosen.tolist(), found.tolist(), strict=True):
            assert torch.equal(logits[row], pred_masks[image, query])
            mask = objects[image][number]
            h, w = (min(pair) for pair in zip(mask.shape, sizes[image] if sizes else mask.shape, strict=True))
            for y, x in itertools.product(range(height), range(width)):
                assert targets[row, y, x] == (mask[y, x] if y < h and x < w else 7)
            row += 1


@pytest.mark.parametrize(
    ("dtype", "value", "ignore_value"),
    [
        (torch.float32, 0.7, 255),
        (torch.float64, 1 / 3, -100),
        (torch.bfloat16, 0.5, 257),
        (torch.float16, 0.25, 70000),
        (torch.float32, 0.125, 2**24 + 1),
        (torch.int32, 65537, 255),
        (torch.uint8, 200, 255),
        (torch.bool, True, 255),
    ],
)
def test_values_of_masks_are_the_same_with_and_without_padding(dtype: torch.dtype, value: float, ignore_value: int):
    pred_masks = torch.zeros(2, 5, 8, 8)
    objects = [torch.full((3, 16, 16), value).to(dtype), torch.full((3, 12, 16), value).to(dtype)]
    alike = [objects[0], F.pad(objects[1], (0, 0, 0, 4))]
    _, plain = matched_masks(pred_masks, alike, INDICES, ignore_value=ignore_value)
    _, padded = matched_masks(pred_masks, objects, INDICES, ignore_value=ignore_value)
    assert plain.dtype == dtype and padded.is_floating_point() == dtype.is_floating_point
    assert padded[:2].tolist() == objects[0][:2].tolist() and padded[2, :12].tolist() == objects[1][2].tolist()
    assert (padded[2, 12:].double() == ignore_value).all() and padded[2, 12:].tolist() == [[ignore_value] * 16] * 4
    cut = matched_masks(pred_masks, alike, INDICES, image_sizes=[(16, 16), (12, 16)], ignore_value=ignore_value)[1]
    assert torch.equal(cut, padded)


def test_an_image_without_objects_has_masks_of_any_size() -> None:
    objects = [torch.ones(3, 8, 8), torch.zeros(0, 0, 0)]
    indices = [INDICES[0], ([], [])]
    _, targets = matched_masks(torch.zeros(2, 5, 8, 8), objects, indices, image_sizes=[(8, 8), (20, 30)])
    assert targets.shape == (2, 8, 8) and (targets == 1).all()


def test_no_pictures() -> None:
    logits, targets = matched_masks(torch.zeros(0, 5, 8, 8), [], [])
    assert logits.shape == targets.shape == (0, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_masks": []}, "target_masks must have an entry for each of the 2 images of pred_masks, got 0"),
        ({"indices": INDICES[:1]}, "indices must have an entry for each of the 2 images of pred_masks, got 1"),
        ({"image_sizes": [(4, 4)]}, "image_sizes must have an entry for each of the 2 images of pred_masks, got 1"),
        ({"target_masks": [torch.ones(8, 8)] * 2}, "target_masks[0] must have the shape [n, H, W], got [8, 8]"),
        (
            {"indices": [(torch.tensor([1, 2]), torch.tensor([0]))] * 2},
            "indices[0] must match queries and objects, got 2",
        ),
        (
            {"indices": [INDICES[0], (torch.tensor([5]), torch.tensor([2]))]},
            "indices[1] must be indices of the 5 queries, from 0 on, got [5]",
        ),
        (
            {"indices": [INDICES[0], (torch.tensor([4]), torch.tensor([3]))]},
            "indices[1] must be indices of the 3 objects of target_masks[1], from 0 on, got [3]",
        ),
        (
            {"indices": [(torch.tensor([4, -1]), torch.tensor([0, 1])), INDICES[1]]},
            "indices[0] must be indices of the 5 queries, from 0 on, got [-1]",
        ),
        (
            {"indices": [INDICES[0], (torch.tensor([1.0]), torch.tensor([2]))]},
            "indices[1] must be integers, indices of the 5 queries, got torch.float32",
        ),
        (
            {"image_sizes": [(8, 8), (9, 8)]},
            "image_sizes[1] must be (height, width) from 1 x 1 to the 8 x 8 pixels of the padded target_masks, "
            "got (9, 8)",
        ),
        ({"image_sizes": [(8, -1), (8, 8)]}, "image_sizes[0] must be (height, width) from 1 x 1 to the 8 x 8"),
        ({"image_sizes": [(8, 8), (0, 8)]}, "image_sizes[1] must be (height, width) from 1 x 1 to the 8 x 8"),
        ({"image_sizes": [(8, 8), (8, 8, 3)]}, "image_sizes[1] must be (height, width) from 1 x 1 to the 8 x 8"),
        ({"image_sizes": [(8, 8)] * 3}, "image_sizes must have an entry for each of the 2 images of pred_masks, got 3"),
        ({"target_masks": [torch.ones(3, 8, 8), None]}, "target_masks[1] must be a tensor, got NoneType"),
        ({"pred_masks": torch.zeros(5, 8, 8)}, "pred_masks must have the shape [N, K, H, W], got [5, 8, 8]"),
    ],
)
def test_what_does_not_belong_together(change: dict, message: str) -> None:
    arguments = {"pred_masks": torch.zeros(2, 5, 8, 8), "target_masks": [torch.ones(3, 8, 8)] * 2, "indices": INDICES}
    with pytest.raises(ValueError, match=re.escape(message)):
        matched_masks(**{**arguments, **change})


class SemSegHead(nn.Module):
    """The `losses` of Panoptic-DeepLab's semantic head, and EPL beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.epl = EPLLoss(point_weight=0.5, resize_logits=True)

    def losses(self, predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        logits = F.interpolate(predictions, scale_factor=4, mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, targets, ignore_index=255, reduction="none")
        loss = (loss if weights is None else loss * weights).mean()
        return {"loss_sem_seg": loss, **self.epl(predictions, targets)}


def test_beside_a_criterion_that_resizes(scene: Callable) -> None:
    logits, labels = scene((2, 3, 32, 40), ignored=True)
    small = F.interpolate(logits, size=(8, 10), mode="bilinear")
    losses = SemSegHead().losses(small, labels, torch.ones(2, 32, 40))
    assert list(losses) == ["loss_sem_seg", "loss_epl_point", "loss_epl_line"]
    full = F.interpolate(small, scale_factor=4, mode="bilinear", align_corners=False)
    for name, value in EPLLoss(point_weight=0.5)(full, labels).items():
        torch.testing.assert_close(losses[name], value)
