"""Reading a label file for a picture: the class ids of its data set, whatever ids the file stores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from epl_d2.data.datasets.metadata import CITYSCAPES_LABEL_ID_TO_TRAIN_ID, DATASETS, Color, DatasetMetadata
from epl_d2.data.label_io import make_label_map, read_label, unknown_ids

CAMVID_VOID = 11


def read_ground_truth(
    path: str | Path,
    dataset: DatasetMetadata,
    label_map: bytes | None = None,
    label_colors: Mapping[Color, int] | None = None,
) -> np.ndarray:
    """Read a label map as class ids 0..K-1 and the ignore label.

    CamVid's void and the labelIds files of Cityscapes (known by their names) are mapped as for training.

    Args:
        path: a label file, of a single channel unless there are `label_colors`.
        dataset: classes and ignore label.
        label_map: 256 bytes, the class id of every stored id; by default what the data set is known to need.
        label_colors: the ids of colors, where the file is a color picture.

    Returns:
        Integer map [H, W].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no label map or holds other ids; the message names it.
    """
    if label_map is None and dataset == DATASETS["camvid"]:
        label_map = make_label_map({CAMVID_VOID: dataset.ignore_value})
    if label_map is None and dataset == DATASETS["cityscapes"] and Path(path).stem.endswith("_labelIds"):
        label_map = make_label_map(CITYSCAPES_LABEL_ID_TO_TRAIN_ID, default=dataset.ignore_value)
    labels = read_label(path, label_map=label_map, label_colors=label_colors)
    unknown = unknown_ids(labels, len(dataset.classes), dataset.ignore_value)
    if unknown:
        raise ValueError(
            f"{path} holds the ids {unknown[:5]}; expected 0..{len(dataset.classes) - 1} "
            f"or {dataset.ignore_value} (ignored)"
        )
    return labels
