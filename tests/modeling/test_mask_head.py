"""The mask head with EPL: the baseline's outputs and state dict, its losses against their parts, empty batches."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import build_mask_head
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from epl_d2 import get_cfg
from epl_d2.losses import line_loss, point_loss
from epl_d2.modeling.mask_head import mask_losses

CLASSES = 3
SHAPE = ShapeSpec(channels=4, width=14, height=14)


def config(*opts):
    cfg = get_cfg()
    cfg.MODEL.ROI_MASK_HEAD.NAME = "EPLMaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.merge_from_list(["NUM_CONV", 1, "CONV_DIM", 4, "POOLER_RESOLUTION", 14])
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = CLASSES
    cfg.MODEL.EPL.MASK.merge_from_list(["POINT.WEIGHT", 0.5, "LINE.WEIGHT", 0.25, "LINE.KERNEL_SIZE", 7])
    cfg.merge_from_list(list(opts))
    return cfg


def head(*opts):
    torch.manual_seed(0)
    module = build_mask_head(config(*opts), SHAPE)
    torch.nn.init.normal_(module.predictor.weight, std=1.0)
    return module


def polygons(count: int, generator: torch.Generator) -> list[list[torch.Tensor]]:
    angles = torch.linspace(0, 2 * math.pi, 9)[:-1]
    result = []
    for _ in range(count):
        center, radius = 20 + 24 * torch.rand(2, generator=generator), 6 + 10 * torch.rand(8, generator=generator)
        points = center + radius[:, None] * torch.stack((angles.cos(), angles.sin()), dim=1)
        result.append([points.flatten().double().numpy()])
    return result


def batch(counts=(2, 0, 3), bitmask=True):
    """Instances of images, as ROI heads hand them to a mask head, and features of their regions."""
    generator = torch.Generator().manual_seed(3)
    images = []
    for count in counts:
        masks = PolygonMasks(polygons(count, generator))
        boxes = masks.get_bounding_boxes() if count else Boxes(torch.zeros(0, 4))
        image = Instances((64, 64))
        image.proposal_boxes = Boxes(boxes.tensor + 4 * torch.rand((count, 4), generator=generator) - 2)
        image.gt_classes = torch.randint(CLASSES, (count,), generator=generator)
        image.gt_masks = BitMasks.from_polygon_masks(masks, 64, 64) if bitmask and count else masks
        images.append(image)
    return torch.randn((sum(counts), 4, 14, 14), generator=generator), images


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("bitmask", [False, True])
def test_losses_are_the_baselines_and_epl_on_the_masks_of_the_true_classes(agnostic, bitmask):
    module = head("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", agnostic)
    features, images = batch(bitmask=bitmask)
    logits = module.layers(features)
    assert logits.shape == (5, 1 if agnostic else CLASSES, 28, 28)
    targets = torch.cat([i.gt_masks.crop_and_resize(i.proposal_boxes.tensor, 28) for i in images if len(i)])
    classes = torch.cat([i.gt_classes for i in images])
    chosen = torch.stack([row[0 if agnostic else c] for row, c in zip(logits, classes, strict=True)])
    with EventStorage():
        losses = module(features, images)
        expected = mask_rcnn_loss(logits, images)
    assert list(losses) == ["loss_mask", "loss_mask_epl_point", "loss_mask_epl_line"]
    torch.testing.assert_close(losses["loss_mask"], expected, rtol=0, atol=0)
    # The two-class softmax of (0, z) is the sigmoid of z; its two rows have the same point loss.
    softmax = torch.stack((torch.zeros_like(chosen), chosen), dim=1)
    point = point_loss(softmax, targets.long(), kernel_size=5)
    torch.testing.assert_close(losses["loss_mask_epl_point"], 0.5 * point)
    line = line_loss(chosen, targets, kernel_size=7, mode="binary")
    torch.testing.assert_close(losses["loss_mask_epl_line"], 0.25 * line)
    assert line > 0.05 and point > 0.05


def test_only_the_masks_of_the_true_classes_get_a_gradient():
    module = head()
    features, images = batch()
    logits = module.layers(features).detach().requires_grad_()
    images = mask_losses.with_cropped_masks(images, 28)
    sum(mask_losses.mask_epl_losses(module.epl, logits, images, 0).values()).backward()
    classes = torch.cat([i.gt_classes for i in images])
    for row, true_class in zip(logits.grad, classes, strict=True):
        assert [bool(mask.any()) for mask in row] == [k == true_class for k in range(CLASSES)]


@pytest.mark.parametrize("counts", [(0, 0), (0,)])
@pytest.mark.parametrize("agnostic", [False, True])
def test_a_batch_without_objects_gives_connected_zeros(counts, agnostic):
    module = head("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", agnostic)
    features, images = batch(counts)
    with EventStorage():
        losses = module(features, images)
    assert len(losses) == 3 and all(loss.item() == 0 for loss in losses.values())
    for loss in losses.values():
        module.zero_grad()
        loss.backward(retain_graph=True)
        assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


def test_masks_are_cut_out_once(monkeypatch):
    calls = []
    original = BitMasks.crop_and_resize
    monkeypatch.setattr(BitMasks, "crop_and_resize", lambda *a: calls.append(a) or original(*a))
    features, images = batch()
    with EventStorage():
        head()(features, images)
    assert len(calls) == 2  # the images with objects
    assert all(isinstance(image.gt_masks, (BitMasks, PolygonMasks)) for image in images)  # theirs are as they were


def test_terms_follow_the_schedule_and_switch():
    features, images = batch()
    module = head("MODEL.EPL.START_ITER", 10, "MODEL.EPL.RAMP_ITERS", 4)
    values = {}
    for iteration in (9, 11, 30):
        with EventStorage(iteration):
            values[iteration] = module(features, images)["loss_mask_epl_line"]
    assert values[9] == 0 and values[9].requires_grad
    assert values[11].item() == pytest.approx(values[30].item() / 2)
    with EventStorage():
        assert list(head("MODEL.EPL.ENABLED", False)(features, images)) == ["loss_mask"]
    with pytest.raises(ValueError, match=r"MODEL\.EPL\.MASK\.LINE\.WEIGHT must be"):
        head("MODEL.EPL.MASK.LINE.WEIGHT", -1.0)


def test_instances_without_masks_are_an_error_that_says_so():
    features, images = batch()
    for image in images:
        image.remove("gt_masks")
    with pytest.raises(ValueError, match=r"have no gt_masks.*MODEL.MASK_ON.*gt_classes, proposal_boxes"):
        head()(features, images)


SMALL = [
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 8),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 8, "MODEL.ROI_BOX_HEAD.CONV_DIM", 8, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 4, "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.CONVS_DIM", 8),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 20, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 20, "MODEL.SEM_SEG_HEAD.NORM", "BN"),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 6, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
]
MODELS = {
    "mask_rcnn": ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"],
    "class_agnostic": ["MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True],
    "cascade": ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True],
    "panoptic_fpn": ["MODEL.META_ARCHITECTURE", "PanopticFPN"],
}
BASELINE = ["MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead", "MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead"]


def model(name: str, *opts):
    cfg = get_cfg()
    cfg.merge_from_file("configs/COCO-PanopticSegmentation/panoptic_fpn_R_50_1x_epl.yaml")
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.merge_from_list([*SMALL, *MODELS[name], *opts])
    torch.manual_seed(1)
    return build_model(cfg)


def flat(results) -> list[torch.Tensor]:
    fields = results[0]["instances"].get_fields()
    tensors = [fields["pred_masks"], fields["pred_classes"], fields["scores"], fields["pred_boxes"].tensor]
    if "panoptic_seg" in results[0]:
        tensors += [results[0]["sem_seg"], results[0]["panoptic_seg"][0]]
    return tensors


@pytest.mark.parametrize("name", MODELS)
def test_models_are_the_baseline_at_inference_bit_for_bit_and_train(name):
    with_epl, baseline = model(name), model(name, *BASELINE)
    weights = with_epl.state_dict()
    assert list(weights) == list(baseline.state_dict())
    baseline.load_state_dict(weights)
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    for module in (with_epl, baseline):
        module.eval()
    record = {"image": image, "height": 90, "width": 120}
    with torch.no_grad():
        found, expected = flat(with_epl([record])), flat(baseline([record]))
    assert len(found[0]) == 6
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    _, instances = batch((3,))
    truth = Instances((96, 128), gt_boxes=instances[0].proposal_boxes, gt_classes=instances[0].gt_classes)
    truth.gt_masks = PolygonMasks(polygons(3, torch.Generator().manual_seed(3)))
    record = {"image": image, "instances": truth, "sem_seg": torch.randint(0, 3, (96, 128))}
    with EventStorage():
        losses = with_epl.train()([record])
    assert {"loss_mask", "loss_mask_epl_point", "loss_mask_epl_line"} <= set(losses)
    assert ("loss_epl_line" in losses) == (name == "panoptic_fpn")
    sum(losses.values()).backward()
    assert losses["loss_mask_epl_line"] > 0
    parameters = list(with_epl.roi_heads.mask_head.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)

    # No object in the whole batch: every parameter has a gradient all the same, for distributed training.
    with_epl.zero_grad()
    with EventStorage():
        losses = with_epl([{**record, "instances": truth[:0]}])
    assert losses["loss_mask"] == losses["loss_mask_epl_point"] == losses["loss_mask_epl_line"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in parameters)
