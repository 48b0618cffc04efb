"""hszhao/semseg's checkpoints: PSPNet and PSANet with the reference's names, made into models of ours."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from epl_d2 import get_cfg
from epl_d2.checkpoint import convert_state_dict, read_state_dict

CONFIGS = Path(__file__).parents[2] / "configs"
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Reference(dict):
    """Shapes of the reference's entries by name."""

    def unit(self, convolution: str, norm: str, out_channels: int, in_channels: int, size: int) -> None:
        """A convolution without bias and its batch norm."""
        self[f"{convolution}.weight"] = (out_channels, in_channels, size, size)
        self.update({f"{norm}.{entry}": (out_channels,) if entry != "num_batches_tracked" else () for entry in NORM})

    def trunk(self, depth: int) -> None:
        channels = 128
        for stage, count in enumerate(BLOCKS[depth]):
            width = 64 * 2**stage
            for block in range(count):
                name = f"layer{stage + 1}.{block}"
                self.unit(f"{name}.conv1", f"{name}.bn1", width, channels, 1)
                self.unit(f"{name}.conv2", f"{name}.bn2", width, width, 3)
                self.unit(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1)
                if block == 0:
                    self.unit(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, channels, 1)
                channels = 4 * width

    def segmentation_stem(self) -> None:
        for index, (out, into) in enumerate(((64, 3), (64, 64), (128, 64))):
            self.unit(f"layer0.{3 * index}", f"layer0.{3 * index + 1}", out, into, 3)

    def imagenet_stem(self) -> None:
        for index, (out, into) in enumerate(((64, 3), (64, 64), (128, 64)), 1):
            self.unit(f"conv{index}", f"bn{index}", out, into, 3)

    def classifiers(self, num_classes: int) -> None:
        for name, into, hidden in (("cls", 4096, 512), ("aux", 1024, 256)):
            self.unit(f"{name}.0", f"{name}.1", hidden, into, 3)
            self.update({f"{name}.4.weight": (num_classes, hidden, 1, 1), f"{name}.4.bias": (num_classes,)})

    def pyramid_pooling(self) -> None:
        for index in range(4):
            self.unit(f"ppm.features.{index}.1", f"ppm.features.{index}.2", 512, 2048, 1)

    def attention(self, mask: int) -> None:
        for suffix in ("", "_p"):
            self.unit(f"psa.reduce{suffix}.0", f"psa.reduce{suffix}.1", 512, 2048, 1)
            self.unit(f"psa.attention{suffix}.0", f"psa.attention{suffix}.1", 512, 512, 1)
            self[f"psa.attention{suffix}.3.weight"] = (mask**2, 512, 1, 1)
        self.unit("psa.proj.0", "psa.proj.1", 2048, 1024, 1)

    def tensors(self, prefix: str = "") -> dict[str, torch.Tensor]:
        return {f"{prefix}{name}": torch.empty(shape, device="meta") for name, shape in self.items()}


def our_model(config: str) -> torch.nn.Module:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{config}.yaml"))
    cfg.MODEL.RESNETS.NORM = cfg.MODEL.SEM_SEG_HEAD.NORM = "BN"
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def shapes_of(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state_dict.items()}


@pytest.mark.parametrize(
    ("config", "depth", "num_classes", "mask"),
    [
        ("VOC2012/pspnet_R_50_os8_epl", 50, 21, None),
        ("Cityscapes/pspnet_R_101_os8", 101, 19, None),
        ("VOC2012/psanet_R_50_os8", 50, 21, 59),
        ("Cityscapes/psanet_R_101_os8_epl", 101, 19, 71),
    ],
)
def test_a_trained_model_loads_whole(config, depth, num_classes, mask):
    reference = Reference()
    reference.segmentation_stem()
    reference.trunk(depth)
    reference.classifiers(num_classes)
    reference.pyramid_pooling() if mask is None else reference.attention(mask)
    theirs = reference.tensors("module.")
    converted = convert_state_dict(theirs, "semseg")
    assert len(converted) == len(theirs)
    assert shapes_of(converted) == shapes_of(our_model(config).state_dict())
    assert converted["backbone.stem.conv3.norm.bias"] is theirs["module.layer0.7.bias"]
    assert converted["backbone.res4.5.conv2.norm.bias"] is theirs["module.layer3.5.bn2.bias"]
    assert converted["sem_seg_head.aux.4.bias"] is theirs["module.aux.4.bias"]


@pytest.mark.parametrize("depth", [50, 101])
def test_imagenet_weights_fill_the_backbone(depth):
    reference = Reference()
    reference.imagenet_stem()
    reference.trunk(depth)
    reference.update({"fc.weight": (1000, 2048), "fc.bias": (1000,)})
    converted = convert_state_dict(reference.tensors(), "semseg")
    ours = our_model(f"VOC2012/pspnet_R_{depth}_os8").backbone.state_dict()
    assert shapes_of(converted) == {f"backbone.{name}": tensor.shape for name, tensor in ours.items()}


def test_the_file_of_the_reference_is_read(tmp_path):
    """Its checkpoints hold the epoch and the optimizer beside the state dict."""
    weights = {"module.layer0.0.weight": torch.ones(64, 3, 3, 3), "module.layer0.6.weight": torch.zeros(128, 64, 3, 3)}
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
    torch.save({"epoch": 50, "state_dict": weights, "optimizer": optimizer}, tmp_path / "train_epoch_50.pth")
    converted = convert_state_dict(read_state_dict(tmp_path / "train_epoch_50.pth"), "semseg")
    assert list(converted) == ["backbone.stem.conv1.weight", "backbone.stem.conv3.weight"]
    assert torch.equal(converted["backbone.stem.conv1.weight"], weights["module.layer0.0.weight"])


def test_other_architectures_are_refused():
    with pytest.raises(ValueError, match=r"decoder\.0\.weight"):
        convert_state_dict({"module.decoder.0.weight": torch.empty(1)}, "semseg")
    with pytest.raises(ValueError, match="no stem of three convolutions"):
        convert_state_dict({"conv1.weight": torch.empty(64, 3, 7, 7)}, "semseg")
