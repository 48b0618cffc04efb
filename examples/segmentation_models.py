"""EPL and the boundary scores with segmentation_models_pytorch: python examples/segmentation_models.py"""

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from scenes import NUM_CLASSES, Scenes
from torch.utils.data import DataLoader

from epl_d2.losses import EPLLoss
from epl_d2.metrics import BoundaryFScore


def main() -> None:
    torch.manual_seed(0)
    model = smp.Unet("resnet18", encoder_weights=None, classes=NUM_CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    epl = EPLLoss()
    for step, (images, labels) in enumerate(DataLoader(Scenes(48), batch_size=4)):
        logits = model(images)
        cross_entropy = F.cross_entropy(logits, labels, ignore_index=255)
        contours = sum(epl(logits, labels).values())
        optimizer.zero_grad()
        (cross_entropy + contours).backward()
        optimizer.step()
        print(f"step {step}: cross entropy {cross_entropy:.3f}, EPL {contours:.3f}")

    metric = BoundaryFScore(NUM_CLASSES, width=[1, 3, 5])
    model.eval()
    with torch.no_grad():
        for images, labels in DataLoader(Scenes(12, seed=1), batch_size=4):
            metric.update(model(images), labels)
    print(
        {f"F at {width} px": round(value.item(), 4) for width, value in zip([1, 3, 5], metric.compute(), strict=True)}
    )


if __name__ == "__main__":
    main()
