#!/usr/bin/env python3
"""Draw with what force each loss moves a straight contour, against its offset, and what EPL's rays leave of a wave.

    python tools/plot_contour_force.py --output contour_force.png

Forces are shown as a share of each loss's own largest one: what counts is where a loss pulls, its weight does the rest.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from epl_d2.analysis.contour_force import LOSSES, contour_force, ray_response
from epl_d2.commands import command
from epl_d2.files import write_whole

KERNEL_SIZES = (3, 7, 15)


def draw(path: Path, widths: list[float], offsets: np.ndarray) -> None:
    figure = Figure(figsize=(4.8 * (len(widths) + 1), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(widths) + 1)
    for axes, width in zip(panels, widths, strict=False):
        for name, loss in LOSSES.items():
            force = contour_force(loss, offsets, width)
            axes.plot(offsets, force / np.abs(force).max(), label=name, linewidth=1.4)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xlabel("offset of the contour (pixels)")
        axes.set_ylabel("force, share of its largest")
        axes.set_title(f"transition of {width:g} px", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7, loc="center right")
    periods = np.linspace(2, 24, 400)
    for size in KERNEL_SIZES:
        panels[-1].plot(periods, ray_response(periods, size), label=f"w = {size}", linewidth=1.4)
    panels[-1].set_xlabel("period of a wave along the ray (pixels)")
    panels[-1].set_ylabel("amplitude that the ray leaves")
    panels[-1].grid(alpha=0.3)
    panels[-1].legend(fontsize=8)
    figure.savefig(path, dpi=100)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=float, nargs="+", default=[0.5, 1.0], help="pixels (default: 0.5 1)")
    parser.add_argument("--largest", type=float, default=8.0, help="offset, pixels (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("contour_force.png"), help="default: %(default)s")
    options = parser.parse_args()
    if min(*options.widths, options.largest) <= 0:
        parser.error("widths and offsets must be positive")
    write_whole(options.output, lambda path: draw(path, options.widths, np.linspace(0, options.largest, 81)))
    print(f"written: {options.output}")


if __name__ == "__main__":
    sys.exit(main())
