"""Gradients at the logits of masks against autograd on the head's own losses, and near the masks' contours."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import build_mask_head
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from epl_d2 import get_cfg
from epl_d2.analysis.gradients import analyze_mask_gradients


class Heads(nn.Module):
    """A model that hands fixed features and instances to its mask head."""

    def __init__(self):
        super().__init__()
        cfg = get_cfg()
        cfg.MODEL.ROI_MASK_HEAD.merge_from_list(["NAME", "EPLMaskRCNNConvUpsampleHead", "NUM_CONV", 1, "CONV_DIM", 4])
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
        cfg.MODEL.EPL.RAMP_ITERS = 50
        torch.manual_seed(0)
        self.roi_heads = nn.Module()
        self.roi_heads.mask_head = build_mask_head(cfg, ShapeSpec(channels=4, width=14, height=14))
        nn.init.normal_(self.roi_heads.mask_head.predictor.weight)

    def forward(self, batch):
        return self.roi_heads.mask_head(*batch)


def batch(seed: int, count: int = 3):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 40, 40, dtype=torch.bool)
    masks[:, :20, :20] = True
    image = Instances((40, 40), gt_masks=BitMasks(masks), gt_classes=torch.arange(count) % 2)
    image.proposal_boxes = Boxes(torch.tensor([[0.0, 0, 40, 40]]).repeat(count, 1))
    return torch.randn((count, 4, 14, 14), generator=generator), [image]


def test_gradients_are_those_of_the_losses():
    model = Heads()
    batches = [batch(0), batch(1, count=0), batch(2)]
    terms, pixels = analyze_mask_gradients(model, batches, (1, 3))
    assert [term.name for term in terms] == ["loss_mask", "loss_mask_epl_point", "loss_mask_epl_line"]
    assert terms[0].magnitude == 1 and terms[0].cosine == pytest.approx(1)
    # The weight of point is 0. A square that fills a quarter of its box: its sides are 2 * 14 pixels on either side.
    assert terms[1].magnitude == 0 and pixels[0] == pytest.approx((14 + 13 + 15 + 14) / 28**2, abs=0.003)

    head, totals = model.roi_heads.mask_head.train(), {}
    for features, images in (batches[0], batches[2]):
        logits = head.layers(features)
        head.layers = lambda _, logits=logits: logits
        with EventStorage(10**6):
            losses = head(features, images)
        del head.layers
        for name in ("loss_mask", "loss_mask_epl_line"):
            totals.setdefault(name, []).append(torch.autograd.grad(losses[name], logits, retain_graph=True)[0])
    cross, line = (torch.cat(totals[name]) for name in ("loss_mask", "loss_mask_epl_line"))
    assert terms[2].magnitude == pytest.approx((line.abs().sum() / cross.abs().sum()).item(), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(line.flatten(), cross.flatten(), dim=0).item()
    assert terms[2].cosine == pytest.approx(cosine, rel=1e-3)
    assert 0 < terms[2].share[0] < terms[2].share[1] <= 1


def test_heads_without_masks_of_boxes_are_named():
    model = Heads()
    model.roi_heads.mask_head = nn.Identity()  # such as PointRend's
    with pytest.raises(ValueError, match="Identity has no `layers` from the features of a box"):
        analyze_mask_gradients(model, [batch(0)], (1,))


def test_the_model_is_left_as_it_was_and_nothing_to_look_at_is_an_error():
    model = Heads().eval()
    with pytest.raises(ValueError, match="no gradient to look at in 0 batches"):
        analyze_mask_gradients(model, [batch(0, count=0)], (1,))
    assert not model.training and all(p.requires_grad for p in model.parameters())
    assert "layers" not in vars(model.roi_heads.mask_head) and not model.roi_heads.mask_head._forward_pre_hooks
