"""EPL, with a schedule, and the boundary scores in a LightningModule: python examples/lightning_module.py"""

import lightning
import torch
import torch.nn.functional as F
from scenes import NUM_CLASSES, Scenes
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from epl_d2.losses import EPLLoss
from epl_d2.metrics import BoundaryFScore, TrimapIoU

IGNORED = -100  # what PyTorch's cross entropy ignores if it is not told


class Segmentor(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(  # any model that gives [N, K, H, W]
            *(nn.Conv2d(3, 32, kernel_size=3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 32, kernel_size=3, padding=2, dilation=2), nn.ReLU()),
            *(nn.Conv2d(32, 32, kernel_size=3, padding=4, dilation=4), nn.ReLU()),
            nn.Conv2d(32, NUM_CLASSES, kernel_size=1),
        )
        self.epl = EPLLoss(ignore_value=IGNORED, start_iter=2, ramp_iters=4)
        self.metrics = MetricCollection(
            [BoundaryFScore(NUM_CLASSES, ignore_index=IGNORED), TrimapIoU(NUM_CLASSES, ignore_index=IGNORED)]
        )

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.model(images)
        cross_entropy = F.cross_entropy(logits, labels)
        contours = sum(self.epl(logits, labels, self.global_step).values())
        print(f"step {self.global_step}: cross entropy {cross_entropy:.3f}, EPL {contours:.3f}")
        return cross_entropy + contours

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.metrics.update(self.model(images), labels)

    def on_validation_epoch_end(self):
        self.log_dict(self.metrics.compute())
        self.metrics.reset()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=5e-3)


def main() -> None:
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train = DataLoader(Scenes(48, ignore_index=IGNORED), batch_size=4)
    trainer.fit(Segmentor(), train, DataLoader(Scenes(12, seed=1, ignore_index=IGNORED), batch_size=4))
    print({name: round(value.item(), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
