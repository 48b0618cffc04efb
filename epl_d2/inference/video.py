"""Frames of videos and cameras; videos, and folders of their labels, that appear whole."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from epl_d2.data.label_io import write_label
from epl_d2.files import publish, temporary_beside

__all__ = ["LabelFolder", "VideoReader", "VideoWriter"]

_USUAL_RATE = 25.0  # frames a second, where the source does not tell


class VideoReader:
    """Iterates over the RGB frames, uint8 [H, W, 3], of a video file or a camera.

    Attributes:
        rate: frames a second.
        announced: the number of frames that the file says it has; None for cameras and files that do not say.
    """

    def __init__(self, source: str | os.PathLike | int):
        """
        Args:
            source: a file, a stream's address, or the number of a camera.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read as a video.
        """
        if not isinstance(source, int) and "://" not in os.fspath(source) and not Path(source).exists():
            raise FileNotFoundError(f"{source}: no such file")
        self._source = source
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else os.fspath(source))
        self._first = self._capture.read()[1] if self._capture.isOpened() else None
        if self._first is None:
            self.close()
            raise ValueError(f"{source}: not a readable {'camera' if isinstance(source, int) else 'video'}")
        rate, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if math.isfinite(rate) and rate > 0 else _USUAL_RATE
        self.announced = int(count) if math.isfinite(count) and count > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        frame = self._first
        while frame is not None:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            frame = self._capture.read()[1]

    def close(self) -> None:
        self._capture.release()


class VideoWriter:
    """Writes RGB frames as MPEG-4 to a temporary name, which becomes the wanted one when the video is finished."""

    def __init__(self, path: str | os.PathLike, rate: float):
        """
        Args:
            path: ends in .mp4; its folder exists.
            rate: frames a second.
        """
        self._path = Path(path)
        self._temporary = temporary_beside(self._path)
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._frames = 0

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 [H, W, 3]; all have one size.

        Raises:
            OSError: the file cannot be written.
            ValueError: the frame has another size than the first one.
        """
        height, width = frame.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            # The codec takes even sides only.
            even = (width + width % 2, height + height % 2)
            self._writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, even)
            if not self._writer.isOpened():
                raise OSError(f"{self._path}: OpenCV cannot write a video there")
        if self._size != (width, height):
            raise ValueError(f"{self._path}: a frame of {width} x {height} pixels in a video of {self._size}")
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        self._writer.write(cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))
        self._frames += 1

    def finish(self) -> None:
        """Close the file and give it its name.

        Raises:
            OSError: not all frames are in the file; OpenCV tells of no error, such as of a full disk, while it writes.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        written = cv2.VideoCapture(str(self._temporary))
        count = int(written.get(cv2.CAP_PROP_FRAME_COUNT))
        written.release()
        if count < self._frames:
            raise OSError(f"{self._path}: only {max(count, 0)} of {self._frames} frames could be written")
        publish(self._temporary, self._path)

    def abandon(self) -> None:
        """Remove what was written, if the video was not finished."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._temporary.unlink(missing_ok=True)


class LabelFolder:
    """Writes the class ids of a video's frames as 000000.png, 000001.png, ... to a temporary folder.

    It takes the place of the wanted one, and of the frames of an earlier video there, when the video is finished.
    """

    def __init__(self, path: str | os.PathLike):
        """
        Args:
            path: the folder; the one around it exists.

        Raises:
            FileExistsError: it holds something else than such frames.
        """
        self._path = Path(path)
        others = [name for name in _listed(self._path) if not re.fullmatch(r"\d{6,}\.png", name)]
        if others:
            raise FileExistsError(f"{path} is to hold a video's frames alone, and holds {others[0]}: move it, please")
        self._temporary = temporary_beside(self._path, "")
        self._frames = 0

    def write(self, labels: np.ndarray) -> None:
        """Append the class ids of a frame, [H, W].

        Raises:
            OSError: the file cannot be written.
        """
        write_label(self._temporary / f"{self._frames:06d}.png", labels)
        self._frames += 1

    def finish(self) -> None:
        """Give the folder its name."""
        former = temporary_beside(self._path, "")
        if self._path.exists():
            os.rename(self._path, former)
        if self._frames:
            os.rename(self._temporary, self._path)
        shutil.rmtree(former, ignore_errors=True)

    def abandon(self) -> None:
        """Remove what was written, if the video was not finished."""
        shutil.rmtree(self._temporary, ignore_errors=True)


def _listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []
