"""Which images and label maps of two folders belong together, and which of them a split holds; reads no picture."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .layout import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    files_by_stem,
    read_list,
    require_files,
    require_folder,
    require_records,
)

__all__ = ["FolderSplit"]


@dataclass(frozen=True)
class FolderSplit:
    """A folder of images and one of label maps, or a part of them.

    Attributes:
        images, labels: the folders; files pair by stem, subfolders included.
        image_ending, label_ending: the ends of the stems that differ, e.g. "_image" for street/0001_image.jpg.
        list_file: names the images of the split, one a line ("street/0001", "street/0001_image.jpg"); None takes all.
        share: where the split begins and ends among the images in the order that `seed` draws, as parts of 1. The
            order follows from the names alone.
        seed: see `share`.
    """

    images: str
    labels: str
    image_ending: str = ""
    label_ending: str = ""
    list_file: str | None = None
    share: tuple[float, float] = (0.0, 1.0)
    seed: int = 0

    def records(self, name: str, shared: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """One record a pair: `{"file_name", "image_id", "sem_seg_file_name"}`, in the order of the ids.

        Args:
            name: of the data set, for messages.
            shared: entries that every record gets.

        Raises:
            FileNotFoundError: a folder, the list or a file that it names is missing, or there are no images.
            ValueError: images without label or labels without image; the message lists them. Or the share is empty.
        """
        layout = f"  {self.images}/STEM{self.image_ending}.jpg (.png, ...)\n  {self.labels}/STEM{self.label_ending}.png"
        for folder in (self.images, self.labels):
            require_folder(folder, name, layout, where="")  # the description says where, not the root
        images = files_by_stem(self.images, ending=self.image_ending, recursive=True)
        labels = files_by_stem(self.labels, LABEL_SUFFIXES, ending=self.label_ending, recursive=True)
        require_records(list(images), self.images, name)
        if self.list_file is not None:
            stems = self._listed(images, name)
            require_files(images, stems, self.images, name, f"images of {self.list_file}")
            require_files(labels, stems, self.labels, name, "label files")
        else:
            self._require_partners(images, labels, name)
            stems = self._drawn(list(images), name)
        return [
            {"file_name": images[stem], "image_id": stem, "sem_seg_file_name": labels[stem], **(shared or {})}
            for stem in stems
        ]

    def _listed(self, images: Mapping[str, str], name: str) -> list[str]:
        stems = []
        for line in read_list(self.list_file, whole_lines=True):
            stem, suffix = os.path.splitext(line)
            if line not in images and suffix.lower() in IMAGE_SUFFIXES:
                line = stem
            stems.append(line if line in images else line.removesuffix(self.image_ending))
        if len(set(stems)) < len(stems):
            twice = sorted({stem for stem in stems if stems.count(stem) > 1})
            raise ValueError(f"{name}: {self.list_file} names images twice: {', '.join(twice[:5])}")
        if not stems:
            raise ValueError(f"{name}: {self.list_file} names no image")
        return sorted(stems)

    def _drawn(self, stems: Sequence[str], name: str) -> list[str]:
        drawn = sorted(stems, key=lambda stem: hashlib.sha256(f"{self.seed}/{stem}".encode()).digest())
        first, last = (round(part * len(stems)) for part in self.share)
        if first == last:
            raise ValueError(
                f"{name}: none of the {len(stems)} images of {self.images} falls into a share of "
                f"{self.share[1] - self.share[0]:g}"
            )
        return sorted(drawn[first:last])

    def _require_partners(self, images: Mapping[str, str], labels: Mapping[str, str], name: str) -> None:
        problems = [
            f"{len(alone)} {kind}: {', '.join(alone[:10])}{', ...' if len(alone) > 10 else ''}"
            for kind, alone in (
                (f"images without a label in {self.labels}", sorted(images.keys() - labels.keys())),
                (f"labels without an image in {self.images}", sorted(labels.keys() - images.keys())),
            )
            if alone
        ]
        if problems:
            raise ValueError(f"{name}: " + "; ".join(problems))
