"""The augmented training set of PASCAL VOC 2012: VOC's label maps, and SBD's for images VOC left unlabeled.

SBD ("Semantic contours from inverse detectors", Hariharan et al., 2011) labels VOC images by hand as well.
Its training and validation images without VOC's validation images, together with VOC's training images, are
the 10,582 images that papers call `train_aug`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.io import loadmat

from epl_d2.files import write_whole

from .datasets.layout import read_list
from .datasets.metadata import DATASETS, bit_reversal_palette
from .label_io import read_label

DOWNLOADS = """\
PASCAL VOC 2012  https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar  (2 GB)
                 unpack, and move VOCdevkit/VOC2012 to DETECTRON2_DATASETS/VOC2012
SBD              https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz
                 (1.4 GB) unpack; the folder with cls/, train.txt and val.txt is benchmark_RELEASE/dataset"""


class ImageList(NamedTuple):
    """What a list of image ids has to be."""

    count: int
    digest: str
    """SHA-256 of the sorted ids, joined by line feeds."""


TRAIN_AUG = ImageList(10_582, "855dff350b7f447bf43cb98ea626a32e0d0b3b7c5786e03b2712a21355b635bf")


def train_aug_ids(voc_root: str, sbd_root: str) -> list[str]:
    """VOC train and SBD train and val, without VOC val; sorted.

    Raises:
        FileNotFoundError: a list is missing; the message says what to download and where to put it.
    """
    voc_lists = os.path.join(voc_root, "ImageSets", "Segmentation")
    voc_train, voc_val = (_read_list(os.path.join(voc_lists, f"{name}.txt")) for name in ("train", "val"))
    sbd_train, sbd_val = (_read_list(os.path.join(sbd_root, f"{name}.txt")) for name in ("train", "val"))
    return sorted((voc_train | sbd_train | sbd_val) - voc_val)


def check_list(name: str, ids: Iterable[str], expected: ImageList) -> None:
    """Raise ValueError unless `ids` are the ones that papers use."""
    unique = sorted(set(ids))
    if len(unique) != expected.count:
        raise ValueError(f"{name} has {len(unique)} images, expected {expected.count}: is a download incomplete?")
    if hashlib.sha256("\n".join(unique).encode()).hexdigest() != expected.digest:
        raise ValueError(f"{name} has the expected {expected.count} images, but not the usual ones")


def read_sbd_label(path: str) -> np.ndarray:
    """The class ids of one .mat file in SBD's folder `cls`.

    Returns:
        uint8 [H, W], ids 0..20.

    Raises:
        ValueError: the file cannot be read, or is no SBD file; the message names it.
    """
    try:
        label = loadmat(path)["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except Exception as error:  # damaged files make scipy raise errors of many kinds
        raise ValueError(f"{path}: not a readable file of SBD's cls folder ({error})") from error
    if label.ndim != 2 or label.size == 0 or label.max() >= len(DATASETS["voc_2012"].classes):
        raise ValueError(f"{path}: a label map of shape {label.shape} with ids up to {label.max(initial=0)}")
    return label.astype(np.uint8)


def write_train_aug(
    voc_root: str,
    sbd_root: str,
    ids: list[str],
    *,
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> int:
    """Write SegmentationClassAug/ID.png for all ids, and at last ImageSets/Segmentation/train_aug.txt.

    VOC's own label map is taken where there is one. Label maps that are already there stay, so that an
    interrupted run goes on where it stopped.

    Args:
        voc_root: the folder VOC2012.
        sbd_root: the folder with SBD's cls/.
        ids: from `train_aug_ids`.
        progress: wraps the loop, e.g. a progress bar.

    Returns:
        The number of label maps written.

    Raises:
        FileNotFoundError: photos or label maps are missing; the message lists some.
        ValueError: a label map cannot be read, or has not the size of its photo.
    """
    photos = os.path.join(voc_root, "JPEGImages")
    sources = {i: _source(voc_root, sbd_root, i) for i in ids}
    missing = [i for i in ids if not os.path.isfile(os.path.join(photos, f"{i}.jpg"))]
    if missing:
        raise FileNotFoundError(f"{photos} lacks {len(missing)} photos, such as {missing[:5]}.\n{DOWNLOADS}")
    missing = [i for i in ids if not os.path.isfile(sources[i])]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} label maps are in neither VOC nor SBD, such as {sources[missing[0]]}.\n{DOWNLOADS}"
        )
    target = os.path.join(voc_root, "SegmentationClassAug")
    os.makedirs(target, exist_ok=True)
    written = 0
    for image_id in progress(ids):
        path = os.path.join(target, f"{image_id}.png")
        if os.path.isfile(path):
            continue
        source = sources[image_id]
        label = read_sbd_label(source) if source.endswith(".mat") else read_label(source)
        with Image.open(os.path.join(photos, f"{image_id}.jpg")) as photo:
            if photo.size != label.shape[::-1]:
                raise ValueError(f"{source}: the label map is {label.shape[::-1]}, its photo {photo.size}")
        _write_palette_png(path, label)
        written += 1
    list_file = os.path.join(voc_root, "ImageSets", "Segmentation", "train_aug.txt")
    text = "".join(f"{image_id}\n" for image_id in ids)
    write_whole(list_file, lambda file: file.write_text(text, encoding="utf-8"))
    return written


def _read_list(path: str) -> set[str]:
    try:
        return set(read_list(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing. Needed are:\n{DOWNLOADS}") from None


def _source(voc_root: str, sbd_root: str, image_id: str) -> str:
    own = os.path.join(voc_root, "SegmentationClass", f"{image_id}.png")
    return own if os.path.isfile(own) else os.path.join(sbd_root, "cls", f"{image_id}.mat")


def _write_palette_png(path: str, label: np.ndarray) -> None:
    picture = Image.fromarray(label)
    picture.putpalette(np.array(bit_reversal_palette(256), dtype=np.uint8).tobytes())
    write_whole(path, lambda file: picture.save(file, format="PNG"))
