#!/usr/bin/env python
"""Segment images, folders, videos or a camera's pictures with a trained model.

    python demo/demo.py --zoo CamVid/semantic_fpn_mobilenet_v2_c64_240_6000_bs4_epl.yaml \\
        --input street.jpg --output segmented
    python demo/demo.py --config-file configs/CamVid/deeplab_v3_plus_R_50_os16_epl.yaml --weights model_final.pth \\
        --input street.jpg frames/ 'more/*.png' --output segmented

Each kind of result has a folder: segmented/overlay (colors over the picture, with the names of the classes),
segmented/contours, segmented/ids (class ids, as tools/evaluate_predictions.py reads them). Test-time augmentation and
sliding windows are options of the config:

    python demo/demo.py --config-file ... --weights ... --video drive.mp4 --output segmented --overlay --ids \\
        --opts TEST.AUG.ENABLED True TEST.WINDOW.ENABLED True

Models of instances and of panoptic segments draw what they find, instances from --min-score on, with --overlay alone.

A camera is shown in a window until q is pressed, or recorded until Ctrl-C with --output.
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import cv2
import numpy as np
from tqdm import tqdm

from epl_d2.commands import command
from epl_d2.data.datasets.arguments import DATASET_FILE_HELP
from epl_d2.data.datasets.layout import files_by_stem
from epl_d2.data.label_io import read_image, write_label
from epl_d2.inference import InstancePrediction, InstancePredictor, Prediction, Predictor, draw_labels, load_predictor
from epl_d2.inference.overlap import WriteBehind, read_ahead
from epl_d2.inference.video import LabelFolder, VideoReader, VideoWriter
from epl_d2.model_zoo import get_checkpoint_url, get_config_file, trained_configs
from epl_d2.visualization import write_png

KINDS = ("overlay", "contours", "ids")
CAMERA = "webcam"  # name of its recording
TEST_WRITE = 2**20  # bytes


@command
def main() -> int:
    args = parse_arguments()
    images = find_images(args.input, args.output)
    videos = name_videos(args.video)
    if args.output:
        check_overwriting(args.output, args.kinds, images, videos)
        check_output(args.output, args.kinds, [*videos, *([CAMERA] if args.webcam is not None else [])])
    if args.zoo:
        args.config_file, args.weights = get_config_file(args.zoo), get_checkpoint_url(args.zoo)
    predictor = load_predictor(args.config_file, args.weights, args.opts, args.device, args.dataset_file)
    demo = Demo(predictor, args.output, args.kinds, args.legend, args.min_score)
    demo.segment_images(images)
    for name, path in videos.items():
        demo.segment_video(path, name)
    if args.webcam is not None:
        demo.record_camera(args.webcam) if args.output else demo.show_camera(args.webcam)
    if args.output:
        print(f"{demo.images} images and {demo.videos} videos in {', '.join(str(args.output / k) for k in args.kinds)}")
    if demo.failures:
        print(f"{len(demo.failures)} could not be read or segmented:", file=sys.stderr)
        print("\n".join(f"  {failure}" for failure in demo.failures), file=sys.stderr)
    return 1 if demo.failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--zoo", metavar="CONFIG", help=f"a model of the package: {', '.join(trained_configs())}")
    model.add_argument("--config-file", help="config of a model of yours, one of configs/*/*.yaml")
    parser.add_argument("--weights", help="checkpoint of the trained model; default: the config's MODEL.WEIGHTS")
    parser.add_argument("--dataset-file", metavar="FILE", help=f"{DATASET_FILE_HELP}: names that the config lacks")
    parser.add_argument("--input", nargs="+", default=[], metavar="PATH", help="images, folders or quoted patterns")
    parser.add_argument("--video", nargs="+", default=[], type=Path, metavar="PATH", help="video files")
    parser.add_argument("--webcam", metavar="CAMERA", help="number of a camera, such as 0, or address of a stream")
    parser.add_argument("--output", type=Path, help="folder for the results; only a camera does without")
    parser.add_argument("--overlay", action="store_true", help="write colors over the picture (the default)")
    parser.add_argument("--contours", action="store_true", help="write the contours of the classes")
    parser.add_argument("--ids", action="store_true", help="write class ids as PNG files")
    parser.add_argument("--no-legend", dest="legend", action="store_false", help="no class names below the pictures")
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.5,
        metavar="S",
        help="instances are drawn from it on (default: %(default)s)",
    )
    parser.add_argument("--device", help='"cpu", "cuda", "cuda:1"; default: the config\'s, or the CPU without CUDA')
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config options, KEY VALUE ...")
    args = parser.parse_args()
    if args.zoo and args.weights:
        parser.error("--weights goes with --config-file: a model of the zoo has weights of its own")
    if not (args.input or args.video or args.webcam is not None):
        parser.error("nothing to segment: give --input, --video or --webcam")
    if not args.output and (args.input or args.video):
        parser.error("--output is missing")
    args.kinds = [kind for kind in KINDS if getattr(args, kind)] or ["overlay"]
    return args


def find_images(inputs: Sequence[str], output: Path | None = None) -> dict[str, str]:
    """The images that paths, folders and patterns name: {name of the result: path}.

    Results that an earlier run left in `output` are no images of a folder or pattern that holds them.

    Raises:
        FileNotFoundError: a folder or pattern gives no image.
        ValueError: the results of two images would have one name.
    """
    images: dict[str, str] = {}
    results = [(output / kind).resolve() for kind in KINDS] if output else []
    for given in inputs:
        if os.path.isdir(given):
            found = list(files_by_stem(given, recursive=True).items())
        elif os.path.exists(given) or not glob.has_magic(given):
            add(images, Path(given).stem, given)
            continue
        else:
            paths = sorted(path for path in glob.glob(given, recursive=True) if not os.path.isdir(path))
            found = [(Path(path).stem, path) for path in paths]
        new = [(name, path) for name, path in found if not lies_in(path, results)]
        if not new:
            but = " but results in the folder of --output" if found else ""
            raise FileNotFoundError(f"--input {given}: there are no images{but}")
        for name, path in new:
            add(images, name, path)
    return images


def lies_in(path: str, folders: Sequence[Path]) -> bool:
    return any(folder in Path(path).resolve().parents for folder in folders)


def name_videos(paths: Sequence[Path]) -> dict[str, Path]:
    videos: dict[str, Path] = {}
    for path in paths:
        add(videos, path.stem, path)
    return videos


def add(named: dict, name: str, path: str | Path) -> None:
    if named.setdefault(name, path) != path:
        raise ValueError(f"the results of {named[name]} and {path} would have one name, {name}")


def check_overwriting(folder: Path, kinds: Sequence[str], images: dict[str, str], videos: dict[str, Path]) -> None:
    """Raise ValueError where a result would take the place of an input or of another result."""
    results = {folder / kind / f"{name}.png": path for kind in kinds for name, path in images.items()}
    results |= {folder / kind / f"{name}.mp4": path for kind in kinds for name, path in videos.items()}
    sources = {Path(path).resolve() for path in results.values()}
    for result, path in results.items():
        if result.resolve() in sources:
            raise ValueError(f"the result of {path} would overwrite {result}, an input; give another --output")
    for name, path in images.items() if "ids" in kinds else ():
        if (video := videos.get(str(PurePosixPath(name).parent))) is not None:
            raise ValueError(f"the ids of {path} would lie among those of {video}")


def check_output(folder: Path, kinds: Sequence[str], videos: Sequence[str]) -> None:
    """Make the folders and write a test file, so that a full disk is not first noticed after an hour.

    Raises:
        FileExistsError: the folder of a video's ids holds something else.
        OSError: the folder cannot be written to.
    """
    try:
        for kind in kinds:
            (folder / kind).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".test-", buffering=0) as file:
            file.write(bytes(TEST_WRITE))
            file.write(b"end")  # the first write may have been cut short without an error
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, f"cannot write to the output folder: {error.strerror}", str(folder)) from error
    if "ids" in kinds:
        for name in videos:
            LabelFolder(folder / "ids" / name)


class Demo:
    """Runs a predictor over pictures; a thread reads ahead, another draws and writes."""

    def __init__(
        self,
        predictor: Predictor | InstancePredictor,
        output: Path | None,
        kinds: Sequence[str],
        legend: bool,
        min_score: float = 0.5,
    ):
        if isinstance(predictor, InstancePredictor) and list(kinds) != ["overlay"]:
            raise ValueError("--contours and --ids need a label for each pixel; instances are drawn by --overlay alone")
        self.min_score = min_score
        self.predictor = predictor
        self.output = output
        self.kinds = kinds
        self.legend = legend
        self.images = 0
        self.videos = 0
        self.failures: list[str] = []

    def segment_images(self, images: dict[str, str]) -> None:
        """Unreadable ones are noted in `failures`."""
        if not images:
            return
        loaded = read_ahead(read_all(images))
        with WriteBehind() as writer, closing(loaded):
            for name, picture in tqdm(loaded, total=len(images), unit="image", disable=None):
                if isinstance(picture, Exception):
                    self.failures.append(str(picture))
                    continue
                try:
                    result = self.predictor(picture)
                except (RuntimeError, ValueError) as error:  # one picture may be too large; the next one is not
                    self.failures.append(f"{images[name]}: {error}")
                    continue
                writer.submit(self.write_image, name, result)
                self.images += 1

    def segment_video(self, source: Path | int | str, name: str, ahead: int = 4) -> None:
        """Unreadable ones are noted in `failures`."""
        try:
            reader = VideoReader(source)
        except (FileNotFoundError, ValueError) as error:
            self.failures.append(str(error))
            return
        writers: dict[str, VideoWriter | LabelFolder] = {
            kind: LabelFolder(self.output / kind / name)
            if kind == "ids"
            else VideoWriter(self.output / kind / f"{name}.mp4", reader.rate)
            for kind in self.kinds
        }
        frames = read_ahead(reader, ahead)
        count = 0
        try:
            with WriteBehind() as writer, closing(frames):
                try:
                    for frame in tqdm(frames, desc=name, total=reader.announced, unit="frame", disable=None):
                        result = self.predictor(frame)
                        writer.submit(self.write_frame, writers, result)
                        count += 1
                except KeyboardInterrupt:
                    if reader.announced is not None:  # else it has no end of its own, and this is the way to end it
                        raise
            for kind_writer in writers.values():
                kind_writer.finish()
            self.videos += 1
            if reader.announced is not None and count < reader.announced:
                self.failures.append(f"{source}: only {count} of {reader.announced} frames are readable")
        finally:
            for kind_writer in writers.values():
                kind_writer.abandon()
            reader.close()

    def record_camera(self, camera: str) -> None:
        print("recording until Ctrl-C is pressed", file=sys.stderr)
        self.segment_video(camera_source(camera), CAMERA, ahead=1)

    def show_camera(self, camera: str) -> None:
        """In a window, until q or escape is pressed or the window is closed."""
        reader = VideoReader(camera_source(camera))
        try:
            for frame in reader:
                result = self.predictor(frame)
                picture = self.draw(result, self.kinds[0])
                try:
                    cv2.imshow("epl_d2", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
                except cv2.error as error:
                    raise RuntimeError(f"no window can be shown ({error}); --output records instead") from error
                key = cv2.waitKey(1) & 0xFF
                if key in (ord("q"), 27) or cv2.getWindowProperty("epl_d2", cv2.WND_PROP_VISIBLE) < 1:
                    break
        finally:
            reader.close()

    def draw(
        self, result: Prediction | InstancePrediction, kind: str, shown: Sequence[int] | None = None
    ) -> np.ndarray:
        """A picture of a result; the legend names the classes `shown`, or all, as frames of a video need."""
        if isinstance(result, InstancePrediction):
            return result.draw(min_score=self.min_score)
        shown = range(len(result.classes)) if shown is None else shown
        kind = "colors" if kind == "ids" else kind
        return draw_labels(
            result.image, result.labels, result.palette, result.classes, kind, shown if self.legend else ()
        )

    def write_image(self, name: str, result: Prediction | InstancePrediction) -> None:
        for kind in self.kinds:
            path = self.output / kind / f"{name}.png"
            if kind == "ids":
                write_label(path, result.labels)
                continue
            shown = None if isinstance(result, InstancePrediction) else np.unique(result.labels).tolist()
            write_png(path, self.draw(result, kind, shown))

    def write_frame(
        self, writers: dict[str, VideoWriter | LabelFolder], result: Prediction | InstancePrediction
    ) -> None:
        for kind, writer in writers.items():
            writer.write(result.labels if kind == "ids" else self.draw(result, kind))


def read_all(images: dict[str, str]) -> Iterator[tuple[str, np.ndarray | Exception]]:
    """Name and RGB picture of every image, or the error that reading it met."""
    for name, path in images.items():
        try:
            yield name, read_image(path)
        except (OSError, ValueError) as error:
            yield name, error


def camera_source(camera: str) -> int | str:
    return int(camera) if camera.isdecimal() else camera


if __name__ == "__main__":
    sys.exit(main())
