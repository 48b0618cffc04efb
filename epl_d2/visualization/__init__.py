"""Pictures of label maps, contours and potential fields; of these only `potential` needs torch."""

from .contours import BoundaryErrors, boundary_errors, contours
from .draw import colorize, draw_contours, legend, overlay, prediction_sheet, write_png

__all__ = [
    "BoundaryErrors",
    "boundary_errors",
    "colorize",
    "contours",
    "draw_contours",
    "legend",
    "overlay",
    "prediction_sheet",
    "write_png",
]
