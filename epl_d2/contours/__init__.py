"""What a contour of a label map is, how far away it is, and how a prediction's differ from the target's.

Pure NumPy and OpenCV. There are two rules, because there are two uses:

- A *line* (`contour_line`, `class_line`) is one pixel wide: a pixel is on it that differs from its east, south or
  south-east neighbor, as in the boundary metrics. `epl_d2.evaluation` counts the same pixels with compiled kernels.
- The *sides* of a contour (`contour_sides`) are the pixels next to it: those with a 4-neighbor of another class.
  Distances to a contour start from them.

Ignored pixels make neither, unless they are filled first (`nearest`, a compiled kernel). Beside them stand the edge
maps of GSCNN (`edges`), which follow its reference, and the band of one mask that Boundary IoU compares (`bands`).
"""

from .bands import DILATION_RATIO, band_width, check_dilation_ratio, inner_band
from .distances import contour_distance, distance_to, signed_distance, within
from .errors import BoundaryErrors, boundary_errors
from .lines import class_line, contour_line, contour_sides

__all__ = [
    "DILATION_RATIO",
    "BoundaryErrors",
    "band_width",
    "boundary_errors",
    "check_dilation_ratio",
    "class_line",
    "contour_distance",
    "contour_line",
    "contour_sides",
    "distance_to",
    "inner_band",
    "signed_distance",
    "within",
]
