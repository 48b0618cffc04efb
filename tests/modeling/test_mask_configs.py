"""Every configuration with masks: its pair, its data sets, and that it builds and trains a step."""

from pathlib import Path

import detectron2
import pytest
import torch
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import MetadataCatalog
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from epl_d2 import get_cfg
from epl_d2.engine import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(
    p.relative_to(CONFIGS).as_posix()
    for p in CONFIGS.glob("*/*.yaml")
    if p.name.startswith(("mask_rcnn_", "panoptic_fpn_", "pointrend_")) and p.parent.name != "grids"
)
WITH_EPL = [name for name in SHIPPED if name.endswith("_epl.yaml")]
# Ours -> the file of the model zoo that it is based on.
ZOO = {
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
    "Cityscapes-InstanceSegmentation/mask_rcnn_R_50_FPN": "Cityscapes/mask_rcnn_R_50_FPN",
}


def read(name: str):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    return cfg


def test_there_is_a_pair_for_every_data_set_and_model():
    assert len(SHIPPED) == 14 and len(WITH_EPL) == 7


@pytest.mark.parametrize("name", WITH_EPL)
def test_pairs_differ_by_the_epl_keys_alone(name):
    baseline, with_epl = read(name.replace("_epl.yaml", ".yaml")), read(name)
    assert with_epl.MODEL.EPL.ENABLED and not baseline.MODEL.EPL.ENABLED
    baseline.MODEL.EPL = with_epl.MODEL.EPL
    assert baseline.dump() == with_epl.dump()


@pytest.mark.parametrize(("name", "zoo"), ZOO.items(), ids=list(ZOO))
def test_baselines_are_those_of_the_zoo_but_for_the_names_of_the_heads(name, zoo):
    ours, theirs = read(f"{name}.yaml"), get_detectron2_cfg()
    theirs.merge_from_file(str(Path(detectron2.__file__).parent / "model_zoo" / "configs" / f"{zoo}.yaml"))
    assert ours.MODEL.ROI_MASK_HEAD.NAME == "EPLMaskRCNNConvUpsampleHead"
    ours.MODEL.ROI_MASK_HEAD.NAME, ours.MODEL.SEM_SEG_HEAD.NAME = "MaskRCNNConvUpsampleHead", "SemSegFPNHead"
    # Crops are off, and the zoo's configs have no use for their size.
    ours.INPUT.CROP.TYPE, ours.INPUT.CROP.SIZE = theirs.INPUT.CROP.TYPE, theirs.INPUT.CROP.SIZE
    assert not ours.INPUT.CROP.ENABLED

    def equal(node, other, path=""):
        for key, value in node.items():
            if isinstance(value, dict):
                equal(value, other[key], f"{path}{key}.")
            else:
                assert other[key] == value, f"{path}{key}"

    equal(theirs, ours)


def test_pointrend_is_its_projects():
    """The settings that its published config has beyond those of the zoo's Mask R-CNN."""
    ours, zoo = (read(f"COCO-InstanceSegmentation/{name}_R_50_FPN_1x.yaml") for name in ("pointrend_rcnn", "mask_rcnn"))
    zoo.merge_from_list(
        [
            *("MODEL.ROI_HEADS.NAME", "EPLPointRendROIHeads", "MODEL.ROI_MASK_HEAD.NAME", "EPLPointRendMaskHead"),
            *("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True, "INPUT.MASK_FORMAT", "bitmask"),
            *("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "", "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", True),
        ]
    )
    assert ours.dump() == zoo.dump()
    mask_head, point_head = ours.MODEL.ROI_MASK_HEAD, ours.MODEL.POINT_HEAD
    assert (mask_head.FC_DIM, mask_head.NUM_FC, mask_head.OUTPUT_SIDE_RESOLUTION) == (1024, 2, 7)
    assert (point_head.FC_DIM, point_head.NUM_FC) == (256, 3)
    assert list(mask_head.IN_FEATURES) == list(point_head.IN_FEATURES) == ["p2"]


@pytest.mark.parametrize("name", SHIPPED)
def test_classes_are_those_of_the_data_sets(name):
    cfg = read(name)
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        metadata = MetadataCatalog.get(dataset)
        assert len(metadata.thing_classes) == cfg.MODEL.ROI_HEADS.NUM_CLASSES
        if cfg.MODEL.META_ARCHITECTURE == "PanopticFPN":
            assert len(metadata.stuff_classes) == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
            assert metadata.stuff_classes[0] == "things"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name for name in WITH_EPL if name.startswith(("COCO-Instance", "Cityscapes"))],
)
def test_builds_and_trains_a_step(name):
    cfg = read(name)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.RPN.merge_from_list(["POST_NMS_TOPK_TRAIN", 16])
    cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = False  # random weights move them away from every contour
    torch.manual_seed(0)
    model = Trainer.build_model(cfg).train()
    half_square = torch.ones(1, 64, 64, dtype=torch.bool).tril(-10)
    objects = Instances((64, 64), gt_boxes=Boxes(torch.tensor([[0.0, 10, 54, 64]])), gt_classes=torch.tensor([1]))
    objects.gt_masks = BitMasks(half_square)
    record = {"image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8), "instances": objects}
    record["sem_seg"] = torch.randint(0, 3, (64, 64))
    with EventStorage(0):
        losses = model([record])
    assert losses["loss_mask_epl_line"] > 0 and ("loss_epl_line" in losses) == ("panoptic" in name)
    sum(losses.values()).backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()] == []


def test_bases_of_the_zoo_that_are_missing_are_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text('_BASE_: "model_zoo://COCO-InstanceSegmentation/no_such.yaml"\n')
    with pytest.raises(FileNotFoundError, match=r"model_zoo://COCO-Instance.*/no_such.yaml: there is no such config"):
        get_cfg().merge_from_file(str(file))


def test_nodes_of_other_projects_merge_with_ours(tmp_path):
    from detectron2.projects.point_rend import add_pointrend_config

    cfg = get_cfg()
    add_pointrend_config(cfg)
    file = tmp_path / "mine.yaml"
    file.write_text('_BASE_: "model_zoo://Base-RCNN-FPN.yaml"\nMODEL:\n  POINT_HEAD:\n    NUM_CLASSES: 3\nVERSION: 2\n')
    cfg.merge_from_file(str(file))
    other = get_detectron2_cfg()
    other.MODEL.MASK_ON = True
    cfg.MODEL.merge_from_other_cfg(other.MODEL)
    assert cfg.MODEL.POINT_HEAD.NUM_CLASSES == 3 and cfg.MODEL.MASK_ON and cfg.clone().dump() == cfg.dump()
