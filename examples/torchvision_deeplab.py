"""EPL and the boundary scores with torchvision's DeepLabV3: python examples/torchvision_deeplab.py"""

import torch
import torch.nn.functional as F
from scenes import NUM_CLASSES, Scenes
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from epl_d2.losses import EPLLoss
from epl_d2.metrics import BoundaryFScore, BoundaryIoU, TrimapIoU


def main() -> None:
    torch.manual_seed(0)
    model = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=NUM_CLASSES, aux_loss=True)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.2  # torchvision's 0.01 is for more steps than these
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    epl = EPLLoss()
    model.train()
    for step, (images, labels) in enumerate(DataLoader(Scenes(48), batch_size=4)):
        outputs = model(images)  # {"out": [N, K, H, W], "aux": [N, K, H, W]}
        cross_entropy = F.cross_entropy(outputs["out"], labels, ignore_index=255)
        auxiliary = F.cross_entropy(outputs["aux"], labels, ignore_index=255)
        contours = sum(epl(outputs["out"], labels).values())
        optimizer.zero_grad()
        (cross_entropy + 0.5 * auxiliary + contours).backward()
        optimizer.step()
        print(f"step {step}: cross entropy {cross_entropy:.3f}, EPL {contours:.3f}")

    kinds = BoundaryFScore, TrimapIoU, BoundaryIoU
    metrics = MetricCollection([kind(NUM_CLASSES, width=3) for kind in kinds])
    model.eval()
    with torch.no_grad():
        for images, labels in DataLoader(Scenes(12, seed=1), batch_size=4):
            metrics.update(model(images)["out"], labels)
    print({name: round(value.item(), 4) for name, value in metrics.compute().items()})


if __name__ == "__main__":
    main()
