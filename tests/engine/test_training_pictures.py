"""The pictures of a training step, up to what TensorBoard reads."""

import io

import numpy as np
import pytest
import torch
from detectron2.engine import TrainerBase
from detectron2.utils.events import EventStorage, TensorboardXWriter
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from epl_d2 import get_cfg
from epl_d2.engine.training_pictures import TrainingPictures
from epl_d2.visualization.training import longest_contour, training_pictures

PALETTE = [(0, 0, 0), (200, 0, 0), (0, 200, 0)]
CLASSES = ["sky", "road", "car"]


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.loss = nn.CrossEntropyLoss(ignore_index=255)

    def forward(self, logits, targets):
        return {"loss_sem_seg": self.loss(logits, targets), "loss_again": self.loss(-logits, targets)}


class Model(nn.Module):
    """Gives the target of its first picture as its prediction, for a batch padded to 12 x 16."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.sem_seg_head = Head()
        self.calls = 0

    def forward(self, records):
        self.calls += 1
        targets = torch.full((len(records), 12, 16), 255)
        for target, record in zip(targets, records, strict=True):
            h, w = record["sem_seg"].shape
            target[:h, :w] = record["sem_seg"]
        logits = 40 * nn.functional.one_hot(targets.clamp(max=2), 3).permute(0, 3, 1, 2).float()
        return self.sem_seg_head(self.weight * logits, targets)


class OneStep(TrainerBase):
    def __init__(self, model, records):
        super().__init__()
        self.model, self.records = model, records
        self.hooked = []

    def run_step(self):
        losses = self.model(self.records)
        self.hooked.append(len(self.model._forward_pre_hooks) + len(self.model.sem_seg_head.loss._forward_pre_hooks))
        sum(losses.values()).backward()


def config(**keys):
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.VIS_PERIOD = 3
    cfg.INPUT.FORMAT = keys.get("input_format", "RGB")
    return cfg


def records():
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(8, 10, dtype=torch.long)
    labels[2:6, 3:8] = 1
    labels[0, 0] = 255
    image = torch.randint(0, 256, (3, 8, 10), generator=generator, dtype=torch.uint8)
    return [
        {"image": image, "sem_seg": labels},
        {"image": torch.zeros(3, 12, 16), "sem_seg": torch.zeros(12, 16).long()},
    ]


def train(cfg, batch, iterations=7):
    """The trainer after its run and the pictures in the order in which they were put: [(name, picture, iteration)]."""
    trainer = OneStep(Model(), batch)
    trainer.register_hooks([TrainingPictures(cfg, trainer.model)])
    trainer.train(0, iterations)
    return trainer, trainer.storage._vis_data


def test_pictures_come_every_period_and_show_the_first_picture_of_the_batch():
    batch = records()
    _, put = train(config(), batch)
    assert [i for _, _, i in put] == [i for i in (0, 3, 6) for _ in range(4)]
    pictures = {name: picture for name, picture, _ in put[:4]}
    assert set(pictures) == {f"pictures/{name}" for name in ("input", "target", "prediction", "potential")}
    assert all(p.dtype == np.uint8 and p.shape[0] == 3 for p in pictures.values())
    assert np.array_equal(pictures["pictures/input"], batch[0]["image"].numpy())
    target, prediction = pictures["pictures/target"], pictures["pictures/prediction"]
    known = batch[0]["sem_seg"].numpy() != 255
    assert target.shape == prediction.shape == (3, 8, 10)
    # The second call of the criterion, with the opposite logits, does not count.
    assert np.array_equal(target[:, known], prediction[:, known]) and (target != prediction).any()


def test_nothing_is_computed_twice_and_modules_are_left_alone_between_pictures():
    trainer, _ = train(config(), records())
    assert trainer.model.calls == 7
    assert trainer.hooked == [2, 0, 0, 2, 0, 0, 2]


def test_channels_of_bgr_models_are_shown_as_rgb():
    batch = records()
    _, put = train(config(input_format="BGR"), batch, 1)
    assert np.array_equal(put[0][1], batch[0]["image"].flip(0).numpy())


def test_a_head_without_criterion_is_named():
    model = Model()
    model.sem_seg_head.forward = lambda logits, targets: {"loss": logits.sum()}
    trainer = OneStep(model, records())
    trainer.register_hooks([TrainingPictures(config(), model)])
    with pytest.raises(RuntimeError, match=r"VIS_PERIOD is 3.*Head"):
        trainer.train(0, 1)


def test_period_must_be_positive():
    cfg = config()
    cfg.VIS_PERIOD = 0
    with pytest.raises(ValueError, match="VIS_PERIOD is 0"):
        TrainingPictures(cfg, Model())


def energies_to_the_right(field: np.ndarray, reach: int) -> np.ndarray:
    """The sum over a pixel and the `reach` pixels right of it; beyond the frame the last one counts again."""
    width = field.shape[1]
    return sum(field[:, np.minimum(np.arange(width) + step, width - 1)] for step in range(reach + 1))


def test_potential_is_the_field_of_the_losses():
    """One color for every whole energy, the same in both panels."""
    labels = np.zeros((20, 24), dtype=np.int64)
    labels[:, :6] = labels[:, 12:20] = 2  # left of a change twice, class 0 once
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), labels.shape).transpose(2, 0, 1)
    image = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    shown = training_pictures(
        image, labels, probabilities.astype(np.float32), palette=PALETTE, classes=CLASSES, kernel_size=7, splitter="A"
    )["potential"]
    height, width = labels.shape
    panels = shown[-height:, :width], shown[-height:, -110 : -110 + width]
    colors = {}
    for panel, field in zip(panels, (labels == 2, probabilities[2]), strict=True):
        energies = np.floor(energies_to_the_right(field.astype(float), 3) + 0.5)
        for y, x in np.ndindex(height - 2, width - 2):  # panels have a frame of one pixel
            color = tuple(panel[y + 1, x + 1])
            assert colors.setdefault(energies[y + 1, x + 1], color) == color
    assert set(colors) == {0, 1, 2, 3, 4} and len(set(colors.values())) == 5


def test_the_field_shown_is_that_of_the_longest_contour():
    labels = np.zeros((9, 9), dtype=np.int64)
    assert longest_contour(np.full((9, 9), 255), 3) == 0
    labels[:] = 2
    assert longest_contour(labels, 3) == 2
    labels[3:7, 3:7] = 1
    inside = [(y, x) for y in range(8) for x in range(8) if len(set(labels[y : y + 2, x : x + 2].ravel())) > 1]
    counts = [sum(labels[place] == c for place in inside) for c in range(3)]
    assert longest_contour(labels, 3) == int(np.argmax(counts))


def test_tensorboard_reads_the_pictures_back(tmp_path):
    batch = records()
    cfg = config()
    trainer = OneStep(Model(), batch)
    trainer.register_hooks([TrainingPictures(cfg, trainer.model)])
    trainer.train(0, 1)
    writer = TensorboardXWriter(str(tmp_path))
    with EventStorage(0) as storage:
        storage._vis_data = trainer.storage._vis_data
        writer.write()
    writer.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    (event,) = events.Images("pictures/input")
    read = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    assert event.step == 0 and np.array_equal(read, batch[0]["image"].permute(1, 2, 0).numpy())
