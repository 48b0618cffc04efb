"""Class names, colors and id tables of the known data sets, free of torch and detectron2."""

from __future__ import annotations

from dataclasses import dataclass

Color = tuple[int, int, int]


@dataclass(frozen=True)
class DatasetMetadata:
    """What all splits of one data set share.

    Attributes:
        classes: names, in the order of the ids 0..K-1.
        palette: one RGB color a class.
        ignore_value: the id of pixels that take no part in losses and scores.
        ignored_rims: whether a rim of ignored pixels surrounds every object, so that contours lie in them.
    """

    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_value: int = 255
    ignored_rims: bool = False

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ValueError(f"{len(self.classes)} classes but {len(self.palette)} palette colors")
        if 0 <= self.ignore_value < len(self.classes):
            raise ValueError(f"ignore_value {self.ignore_value} is the id of class {self.classes[self.ignore_value]!r}")


def bit_reversal_palette(count: int) -> tuple[Color, ...]:
    """The color map of the PASCAL VOC devkit: the bits of the id, dealt to r, g, b from the top bit down."""
    palette = []
    for index in range(count):
        color = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                color[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        palette.append((color[0], color[1], color[2]))
    return tuple(palette)


# name, label id, color; the position is the train id. Every other label id is ignored.
_CITYSCAPES_CLASSES: tuple[tuple[str, int, Color], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)

CITYSCAPES_TRAIN_ID_TO_LABEL_ID: tuple[int, ...] = tuple(label_id for _, label_id, _ in _CITYSCAPES_CLASSES)
CITYSCAPES_LABEL_ID_TO_TRAIN_ID: dict[int, int] = {
    label_id: train_id for train_id, label_id in enumerate(CITYSCAPES_TRAIN_ID_TO_LABEL_ID)
}

_VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

_CAMVID_CLASSES: tuple[tuple[str, Color], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (0, 0, 192)),
    ("tree", (128, 128, 0)),
    ("sign_symbol", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)

_SHAPES_CLASSES: tuple[tuple[str, Color], ...] = (
    ("sky", (135, 190, 235)),
    ("ground", (120, 110, 90)),
    ("disk", (220, 60, 50)),
    ("polygon", (60, 130, 60)),
    ("ring", (240, 180, 40)),
    ("rod", (90, 70, 190)),
)

DATASETS: dict[str, DatasetMetadata] = {
    "cityscapes": DatasetMetadata(
        classes=tuple(name for name, _, _ in _CITYSCAPES_CLASSES),
        palette=tuple(color for _, _, color in _CITYSCAPES_CLASSES),
    ),
    "voc_2012": DatasetMetadata(
        classes=_VOC_CLASSES, palette=bit_reversal_palette(len(_VOC_CLASSES)), ignored_rims=True
    ),
    "camvid": DatasetMetadata(
        classes=tuple(name for name, _ in _CAMVID_CLASSES),
        palette=tuple(color for _, color in _CAMVID_CLASSES),
    ),
    "shapes": DatasetMetadata(
        classes=tuple(name for name, _ in _SHAPES_CLASSES),
        palette=tuple(color for _, color in _SHAPES_CLASSES),
    ),
}
