"""EPL as a loss of mmsegmentation's registry, named in a config: python examples/mmsegmentation_registry.py"""

import importlib.util
import sys
from types import ModuleType

import torch
from scenes import NUM_CLASSES, Scenes
from torch import nn
from torch.utils.data import DataLoader

from epl_d2.losses import EPLLoss
from epl_d2.metrics import compute


class NoOperations(ModuleType):
    """Stands for the compiled operations of mmcv, which mmcv-lite lacks and which this model does not use."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


if importlib.util.find_spec("mmcv._ext") is None:
    sys.modules["mmcv._ext"] = NoOperations("mmcv._ext")  # mmseg.models imports their names

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402


@MODELS.register_module()
class EPLDecodeLoss(nn.Module):
    """An entry of `loss_decode`, beside a cross entropy; its arguments are those of `EPLLoss`."""

    def __init__(self, loss_name: str = "loss_epl", **settings) -> None:
        super().__init__()
        self.loss_name = loss_name  # mmengine adds up what begins with loss_
        self.epl = EPLLoss(**settings)

    def forward(self, logits, labels, weight=None, ignore_index=255, **kwargs):
        self.epl.ignore_value = ignore_index  # that of the head
        return sum(self.epl(logits, labels).values())


MODEL = {
    "type": "EncoderDecoder",
    "data_preprocessor": {"type": "SegDataPreProcessor", "size": (96, 96)},
    "backbone": {"type": "ResNetV1c", "depth": 18, "norm_cfg": {"type": "BN"}},
    "decode_head": {
        "type": "FCNHead",
        "in_channels": 512,
        "in_index": 3,
        "channels": 64,
        "num_classes": NUM_CLASSES,
        "norm_cfg": {"type": "BN"},
        "loss_decode": [
            {"type": "CrossEntropyLoss", "avg_non_ignore": True},
            {"type": "EPLDecodeLoss", "line_weight": 3.0},
        ],
    },
    "test_cfg": {"mode": "whole"},
}


def as_samples(labels):
    samples = []
    for label in labels:
        size = {"img_shape": label.shape, "ori_shape": label.shape}
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=label[None]), metainfo=size))
    return samples


def main() -> None:
    torch.manual_seed(0)
    init_default_scope("mmseg")
    model = MODELS.build(ConfigDict(MODEL))
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    for step, (images, labels) in enumerate(DataLoader(Scenes(48), batch_size=4)):
        batch = {"inputs": list(images), "data_samples": as_samples(labels)}
        losses = model.train_step(batch, optimizer)
        print(f"step {step}: cross entropy {losses['decode.loss_ce']:.3f}, EPL {losses['decode.loss_epl']:.3f}")

    predictions, references = [], []
    model.eval()
    for images, labels in DataLoader(Scenes(12, seed=1), batch_size=4):
        results = model.val_step({"inputs": list(images), "data_samples": as_samples(labels)})
        predictions += [result.pred_sem_seg.data[0] for result in results]
        references += list(labels)
    scores = compute(predictions=predictions, references=references, num_labels=NUM_CLASSES)
    print({name: round(scores[name], 4) for name in ("mean_iou", "boundary_f_3px", "trimap_iou_3px")})


if __name__ == "__main__":
    main()
