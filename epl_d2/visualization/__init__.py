"""Pictures of label maps, contours and potential fields; of these only `potential` needs torch."""

from .draw import colorize, draw_contours, legend, overlay, prediction_sheet, write_png

__all__ = [
    "colorize",
    "draw_contours",
    "legend",
    "overlay",
    "prediction_sheet",
    "write_png",
]
