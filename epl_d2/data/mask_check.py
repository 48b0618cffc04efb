"""Whether the annotations of a COCO file, or of records in Detectron2's format, have masks that fit their images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["check_coco_masks", "check_record_masks", "mask_problem"]


def mask_problem(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with a segmentation for an image of height x width pixels; None if nothing is.

    Args:
        segmentation: polygons [[x, y, x, y, x, y, ...], ...], or an RLE {"size": [H, W], "counts": ...}.
        height, width: of the image.
    """
    if not segmentation:
        return "it has no segmentation"
    if isinstance(segmentation, Mapping):
        size = segmentation.get("size")
        if not isinstance(size, Sequence) or "counts" not in segmentation:
            return f'its RLE has the keys {sorted(segmentation)}, expected "size" and "counts"'
        if list(size) != [height, width]:
            return f"its RLE is {' x '.join(map(str, size))}, but the image is {height} x {width} (height x width)"
        counts = segmentation["counts"]
        pixels = sum(_runs(counts) if isinstance(counts, (str, bytes)) else counts)
        if pixels != height * width:
            return f"its RLE counts {pixels} pixels, but the image has {height * width}"
        return None
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        return f"its segmentation is a {type(segmentation).__name__}, expected polygons or an RLE"
    for polygon in segmentation:
        if not isinstance(polygon, Sequence) or len(polygon) < 6 or len(polygon) % 2:
            return f"its polygon {str(polygon)[:60]} is none: expected at least three points [x, y, x, y, x, y, ...]"
    return None


def _runs(counts: str | bytes) -> list[int]:
    """The lengths of the runs in COCO's compressed form.

    Each character beyond "0" has five bits, the lowest first, and a sixth that says whether the number goes on; the
    last five bits have the sign. From the fourth number on it is the difference to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - ord("0")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def check_coco_masks(dataset: Mapping[str, Any], file: str) -> None:
    """Check every annotation of a COCO file; a file without annotations (of a test set) passes.

    Args:
        dataset: the content of the file.
        file: its name, for messages.

    Raises:
        ValueError: naming the file, the annotation, its image, and what does not fit.
    """
    images = {image["id"]: image for image in dataset.get("images", ())}
    for annotation in dataset.get("annotations", ()):
        image = images.get(annotation["image_id"])
        if image is None:
            raise ValueError(
                f"{file}: annotation {annotation['id']} is of image {annotation['image_id']}, which the file lacks"
            )
        problem = mask_problem(annotation.get("segmentation"), image["height"], image["width"])
        if problem:
            raise ValueError(
                f"{file}: annotation {annotation['id']} of image {image.get('file_name', image['id'])}: {problem}"
            )


def check_record_masks(records: Iterable[Mapping[str, Any]], name: str) -> None:
    """Check the annotations of a registered data set, as training reads them.

    Args:
        records: in Detectron2's format.
        name: of the data set, for messages.

    Raises:
        ValueError: no record has annotations, or one has no mask or a mask that does not fit its image.
    """
    annotated = False
    for record in records:
        for index, annotation in enumerate(record.get("annotations", ())):
            annotated = True
            problem = mask_problem(annotation.get("segmentation"), record["height"], record["width"])
            if problem:
                raise ValueError(f"{name}: object {index} of {record['file_name']}: {problem}")
    if not annotated:
        raise ValueError(f"{name}: no image has an object; training masks needs instances with a segmentation")
