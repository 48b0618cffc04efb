"""PointRend with EPL on its coarse masks: its losses beside the baseline's, empty batches, the whole model."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import build_mask_head
from detectron2.projects.point_rend import PointRendMaskHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from epl_d2 import get_cfg
from epl_d2.losses import line_loss, point_loss

CLASSES = 3
FEATURES = {"p2": ShapeSpec(channels=8, stride=4)}
CONFIG = "configs/COCO-InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_epl.yaml"
SMALL = [
    *("MODEL.ROI_HEADS.NUM_CLASSES", CLASSES, "MODEL.POINT_HEAD.NUM_CLASSES", CLASSES, "MODEL.DEVICE", "cpu"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 8, "MODEL.ROI_MASK_HEAD.FC_DIM", 16, "MODEL.POINT_HEAD.FC_DIM", 8),
    *("MODEL.EPL.MASK.POINT.WEIGHT", 0.5, "MODEL.EPL.MASK.LINE.WEIGHT", 0.25, "MODEL.EPL.MASK.POINT.KERNEL_SIZE", 3),
]


def config(*opts):
    cfg = get_cfg()
    cfg.merge_from_file(CONFIG)
    cfg.merge_from_list([*SMALL, *opts])
    return cfg


def head(*opts):
    torch.manual_seed(0)
    module = build_mask_head(config(*opts), FEATURES)
    torch.nn.init.normal_(module.coarse_head.prediction.weight, std=1.0)
    return module


def batch(counts=(2, 0, 3)):
    """Features of images, and their foreground proposals: half disks, somewhat off their boxes."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    images = []
    for count in counts:
        centers = 20 + 24 * torch.rand((count, 2), generator=generator)
        radii = 8 + 8 * torch.rand(count, generator=generator)
        distances = (y - centers[:, :1, None]) ** 2 + (x - centers[:, 1:, None]) ** 2
        masks = (distances < radii[:, None, None] ** 2) & (x + y < centers.sum(1)[:, None, None])
        image = Instances((64, 64), gt_masks=BitMasks(masks))
        boxes = image.gt_masks.get_bounding_boxes().tensor
        image.proposal_boxes = Boxes(boxes + 4 * torch.rand((count, 4), generator=generator) - 2)
        image.gt_classes = torch.randint(CLASSES, (count,), generator=generator)
        images.append(image)
    return {"p2": torch.randn((len(counts), 8, 16, 16), generator=generator)}, images


def losses_of(module, *inputs, iteration=0):
    """With the same points each time."""
    torch.manual_seed(7)
    with EventStorage(iteration):
        return module(*inputs)


def test_losses_are_the_baselines_and_epl_on_the_coarse_masks_of_the_true_classes():
    module, (features, images) = head(), batch()
    baseline = PointRendMaskHead(config(), FEATURES)
    baseline.load_state_dict(module.state_dict())
    losses, expected = losses_of(module, features, images), losses_of(baseline, features, images)
    assert list(losses) == ["loss_mask", "loss_mask_point", "loss_mask_epl_point", "loss_mask_epl_line"]
    assert all(torch.equal(losses[name], value) for name, value in expected.items())

    logits = module.coarse_head(module._roi_pooler(features, [image.proposal_boxes for image in images]))
    assert logits.shape == (5, CLASSES, 7, 7)
    targets = torch.cat([i.gt_masks.crop_and_resize(i.proposal_boxes.tensor, 7) for i in images if len(i)])
    classes = torch.cat([image.gt_classes for image in images])
    chosen = torch.stack([row[k] for row, k in zip(logits, classes, strict=True)])
    # The two-class softmax of (0, z) is the sigmoid of z.
    softmax = torch.stack((torch.zeros_like(chosen), chosen), dim=1)
    point = point_loss(softmax, targets.long(), kernel_size=3)
    line = line_loss(softmax, targets.long(), kernel_size=5)
    assert point > 0.05 and line > 0.05
    torch.testing.assert_close(losses["loss_mask_epl_point"], 0.5 * point)
    torch.testing.assert_close(losses["loss_mask_epl_line"], 0.25 * line)
    assert not module.coarse_head._forward_hooks

    (losses["loss_mask_epl_point"] + losses["loss_mask_epl_line"]).backward()
    moved = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, _ in module.named_parameters() if name.startswith("coarse_head.")}


def test_terms_follow_the_schedule_and_switch():
    features, images = batch()
    module = head("MODEL.EPL.START_ITER", 10, "MODEL.EPL.RAMP_ITERS", 4)
    values = [losses_of(module, features, images, iteration=i)["loss_mask_epl_line"] for i in (9, 11, 30)]
    assert values[0] == 0 and values[0].requires_grad
    assert values[1].item() == pytest.approx(values[2].item() / 2)
    assert list(losses_of(head("MODEL.EPL.ENABLED", False), features, images)) == ["loss_mask", "loss_mask_point"]
    coarse_alone = losses_of(head("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", False), features, images)
    assert list(coarse_alone) == ["loss_mask", "loss_mask_epl_point", "loss_mask_epl_line"]


@pytest.mark.parametrize("counts", [(0, 0), (0,)])
@pytest.mark.parametrize("enabled", [True, False])
def test_a_batch_without_objects_gives_connected_zeros(counts, enabled):
    """The baseline's point head fails there."""
    module, (features, images) = head("MODEL.EPL.ENABLED", enabled), batch(counts)
    losses = losses_of(module, features, images)
    assert len(losses) == (4 if enabled else 2)
    assert all(loss == 0 and loss.requires_grad for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"POINT_HEAD.NUM_CLASSES is 80, expected that of MODEL.ROI_HEADS, 3"):
        head("MODEL.POINT_HEAD.NUM_CLASSES", 80)
    with pytest.raises(ValueError, match=r"MODEL\.EPL\.MASK\.LINE\.WEIGHT must be"):
        head("MODEL.EPL.MASK.LINE.WEIGHT", -1.0)
    features, images = batch()
    for image in images:
        image.remove("gt_masks")
    with pytest.raises(ValueError, match=r"have no gt_masks.*MODEL.MASK_ON.*gt_classes, proposal_boxes"):
        losses_of(head(), features, images)


MODEL = [
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 8),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 8, "MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 20, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 20, "TEST.DETECTIONS_PER_IMAGE", 4),
]


def test_the_model_is_the_baseline_at_inference_bit_for_bit_and_trains():
    torch.manual_seed(1)
    with_epl = build_model(config(*MODEL))
    theirs = ["MODEL.ROI_HEADS.NAME", "PointRendROIHeads", "MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHead"]
    baseline = build_model(config(*MODEL, *theirs))
    assert list(with_epl.state_dict()) == list(baseline.state_dict())
    # Names of checkpoints of the project's first version, which its heads translate.
    old = {
        name.replace("mask_head.coarse_head.fc", "mask_coarse_head.coarse_mask_fc")
        .replace("mask_head.coarse_head", "mask_coarse_head")
        .replace("mask_head.point_head", "mask_point_head"): value.clone()
        for name, value in baseline.state_dict().items()
    }
    assert len(set(old) - set(baseline.state_dict())) == 16
    with_epl.load_state_dict(old)
    assert all(torch.equal(value, with_epl.state_dict()[name]) for name, value in baseline.state_dict().items())

    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    results = []
    for module in (with_epl.eval(), baseline.eval()):
        with torch.no_grad():
            results.append(module([{"image": image}])[0]["instances"].get_fields())
    found, expected = results
    assert len(found["scores"]) == 4 and found["pred_masks"].shape == (4, 64, 64)
    for name in ("pred_masks", "pred_classes", "scores"):
        assert torch.equal(found[name], expected[name]), name
    assert torch.equal(found["pred_boxes"].tensor, expected["pred_boxes"].tensor)

    _, (instances,) = batch((3,))
    truth = Instances((64, 64), gt_boxes=instances.proposal_boxes, gt_classes=instances.gt_classes)
    truth.gt_masks = instances.gt_masks
    losses = losses_of(with_epl.train(), [{"image": image, "instances": truth}])
    assert losses["loss_mask_epl_line"] > 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in with_epl.roi_heads.mask_head.parameters())
