"""The line loss and its gradient on a CPU.

Only rows (a class in an image) whose class occurs in the target have lines, and only pixels on the lines count. The
work on whole rows is the window sums, shared by the two opposite rays of an axis, and the search for ranks
(`find_candidates`). Everything after is done on the list of predicted line pixels: the activations, and the gradient,
which is scattered along the rays. The target's side is a histogram of integer energies (`target_lines`).

Shape shorthand in this module: N images, K classes, S directions, H x W pixels, R = N * K rows, P rows whose class
occurs, B rows of a block, C possible counts of pixels, M line pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .equal_count import Candidates, find_candidates, pick
from .potential import Axis, axes_of, box_sums, crop, directions_of, fold, pad, replicate, windows
from .reference import activation
from .target_lines import BoxTarget, TargetLines, ray_targets

_BLOCK_BYTES = 1 << 20


@dataclass
class _Lines:
    """Line pixels of the prediction in one direction: row (0..R-1), pixel (0..H*W-1), E(p), and the target's count."""

    row: Tensor
    pixel: Tensor
    energy: Tensor
    count: Tensor


class _Geometry:
    """The rays, or the box, of one kernel, and the energies that counts of pixels stand for."""

    def __init__(self, radius: int, splitter: str, convolution: str, padding: str) -> None:
        self.radius = radius
        self.padding = padding
        self.standard = convolution == "standard"
        self.axes = (None,) if self.standard else axes_of(splitter)
        self.steps = (None,) if self.standard else directions_of(splitter)
        self.full = (2 * radius + 1) ** 2 if self.standard else radius + 1
        self.energies = torch.arange(self.full + 1, dtype=torch.float64) * (radius + 1) / self.full
        self.on_line = (self.energies >= 1) & (self.energies < radius + 1)

    def targets(self, codes: Tensor, classes: int, rows: Tensor) -> list[TargetLines]:
        """The target's lines in each direction."""
        if self.standard:
            return [BoxTarget(codes, classes, rows, self.radius, self.padding)]
        pairs = (ray_targets(codes, classes, axis, self.radius, self.padding) for axis in self.axes)
        return [target for pair in pairs for target in pair]

    def field(self, padded: Tensor, axis: Axis | None) -> tuple[Tensor, list[tuple[int, int]]]:
        """Energies along an axis, and where the H x W pixels of each of its directions start in them.

        ``padded`` is ``[B, H + 2 r, W + 2 r]``.
        """
        if self.standard:
            size = 2 * self.radius + 1
            sums = windows(windows(padded, (0, 1), size), (1, 0), size)
            return sums * (self.radius + 1) / self.full, [(0, 0)]
        dy, dx = axis[0] * self.radius, axis[1] * self.radius
        field = windows(crop(padded, self.radius - dy, self.radius - abs(dx)), axis, self.radius + 1)
        # A window is the ray of its first pixel, and the opposite ray of its last.
        return field.contiguous(), [(dy, max(0, dx)), (0, max(0, -dx))]


def line_loss_and_gradient(
    logits: Tensor,
    labels: Tensor,
    kernel_size: int,
    splitter: str,
    convolution: str,
    mu: int,
    formulation: str,
    ignore_value: int,
    need_gradient: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient by the logits ``[N, K, H, W]`` of `reference.line_loss`, in its precision."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    n, k = logits.shape[:2]
    valid = labels != ignore_value
    codes = torch.where(valid, labels.long() + 1, 0)
    images = torch.arange(n)[:, None, None] * (k + 1)
    occurring = torch.bincount((codes + images).flatten(), minlength=n * (k + 1)).view(n, k + 1)[:, 1:]
    rows = occurring.reshape(-1).nonzero()[:, 0]
    if len(rows) == 0:
        return logits.new_zeros((), dtype=dtype), torch.zeros_like(logits) if need_gradient else None
    p = logits.softmax(dim=1, dtype=dtype).contiguous()
    pixels = int(occurring.sum())
    if pixels < valid.numel():
        p *= valid.unsqueeze(1)

    official = formulation == "official"
    geometry = _Geometry(kernel_size // 2, splitter, convolution, "zero" if official else "replicate")
    targets = geometry.targets(codes.to(torch.uint8 if k < 255 else torch.int32), k, rows)
    lines = _find_lines(p, valid, rows, targets, geometry)
    histograms = [target.histogram for target in targets]
    pool = pixels * k if official else None
    value, slopes = _compare(lines, histograms, geometry, mu, pool, need_gradient)
    if not need_gradient:
        return value.to(dtype), None
    if k == 1:  # p is 1 whatever the logits
        return value.to(dtype), torch.zeros_like(logits)
    places = [(part.row, part.pixel) for part in lines]
    del lines, targets
    if geometry.standard:
        gradient = _through_box(p, *places[0], slopes[0], rows, geometry)
    else:
        gradient = _through_rays(p, places, slopes, geometry)
    return value.to(dtype), gradient.to(logits.dtype)


def _find_lines(
    p: Tensor, valid: Tensor, rows: Tensor, targets: list[TargetLines], geometry: _Geometry
) -> list[_Lines]:
    """The prediction's lines in each direction, found in blocks of rows that stay in the cache."""
    n, k, h, w = p.shape
    fields = p.view(n * k, h, w)
    pixels = valid.flatten(1).sum(dim=1)
    masked = int(pixels.sum()) < valid.numel()
    block = max(1, _BLOCK_BYTES // (h * w * p.element_size()))
    radius = geometry.radius
    workspace = p.new_zeros(min(block, len(rows)), h + 2 * radius, w + 2 * radius)
    narrow = torch.int32 if p.numel() < 2**31 else torch.int64
    lines: list[_Lines] = []
    for axis in geometry.axes:
        pair = targets[len(lines) :][: 1 if geometry.standard else 2]
        found: list[list[Candidates]] = [[] for _ in pair]
        for begin in range(0, len(rows), block):
            chosen = rows[begin : begin + block]
            image = chosen // k
            padded = workspace[: len(chosen)]
            crop(padded, radius, radius).copy_(fields.index_select(0, chosen))
            if geometry.padding == "replicate":
                replicate(padded, radius, radius, radius)
            field, origins = geometry.field(padded, axis)
            high = torch.stack([pixels[image] - target.full[chosen] for target in pair])
            low = high - torch.stack([target.histogram[chosen].sum(dim=1) for target in pair])
            parts = find_candidates(field, (h, w), origins, valid[image] if masked else None, low, high)
            for collected, part in zip(found, parts, strict=True):
                collected.append(part)
        height, width = field.shape[1:]
        for target, (top, left) in zip(pair, origins, strict=True):
            row, place, energy = pick(found.pop(0))
            # From the field of windows of the row's block to the image.
            y = place // width
            pixel = (y % height - top) * w + place - y * width - left
            row = rows[row]
            count = target.counts(row, pixel).int()
            lines.append(_Lines(row.to(narrow), pixel.to(narrow), energy, count))
    return lines


def _compare(
    lines: list[_Lines], histograms: list[Tensor], geometry: _Geometry, mu: int, pool: int | None, need_gradient: bool
) -> tuple[Tensor, list[Tensor]]:
    """Value of the loss, and in each direction its slope by the energy of each predicted line pixel, ``[M]``.

    With a ``pool`` (the number of pixels of all rows) this is the official formulation, whose sums also take the
    pixels off the lines, with energy 0; without, the sums are those of each row, on the lines alone.
    """
    official = pool is not None
    smooth = 1 if official else 0
    value = torch.zeros((), dtype=torch.float64)
    terms = 0
    slopes = [torch.zeros_like(part.energy) for part in lines]

    def sums(values: Tensor, row: Tensor) -> Tensor:
        """Float64 sums of ``[M]`` over each group: all of a direction, or each row."""
        if official:
            return values.sum(dtype=torch.float64)[None]
        return torch.zeros(len(histograms[0]), dtype=torch.float64).index_add_(0, row, values.double())

    for tau in range(1, geometry.radius + 1):
        rest = float(activation(torch.zeros((), dtype=torch.float64), tau, mu)) if official else 0.0
        g = torch.where(geometry.on_line, activation(geometry.energies, tau, mu), rest)
        near = geometry.on_line & ((geometry.energies - tau).abs() <= 0.5)
        for part, histogram, slope in zip(lines, histograms, slopes, strict=True):
            histogram = histogram.sum(0, keepdim=True) if official else histogram
            histogram = histogram.double()
            others = pool - histogram.sum(1) if official else 0.0
            sum_g = histogram @ g + others * rest
            sum_gg = histogram @ (g * g) + others * rest**2
            present = (histogram @ near.double()) > 0

            distance = part.energy - tau
            bound = 1000.0 ** (1 / mu)
            odd = distance.clamp_(-bound, bound).pow(mu - 1)
            h = odd.mul(distance).neg_().exp_()
            weight = g.to(h.dtype)[part.count]
            sum_h = sums(h, part.row) + others * rest
            sum_gh = sums(weight * h, part.row)
            if official:
                sum_gh = sum_gh + rest * (sum_g - sums(weight, part.row))

            constant = 2 * sum_g / torch.where(present, sum_gg, 1.0)
            total = torch.where(present, sum_g + sum_h + smooth, 1.0)
            quotient = (sum_gh + smooth) / total
            similarity = constant * quotient
            if not official:
                similarity = similarity.clamp(max=1)
                present_slope = present & (constant * quotient < 1)
            else:
                present_slope = present
            value += torch.where(present, 1 - similarity, 0.0).sum()
            terms += int(present.sum())
            if need_gradient:
                factor = torch.where(present_slope, constant / total * mu, 0.0).to(h.dtype)
                quotient = quotient.to(h.dtype)
                if not official:
                    factor, quotient = factor[part.row], quotient[part.row]
                slope += weight.sub_(quotient).mul_(odd).mul_(h).mul_(factor)
    scale = 1 / (len(lines) if official else max(1, terms))
    return value * scale, [slope.mul_(scale) for slope in slopes]


def _through_rays(p: Tensor, places: list[tuple[Tensor, Tensor]], slopes: list[Tensor], geometry: _Geometry) -> Tensor:
    """Gradient by the logits, written over ``p``: each slope goes to the pixels of its ray, then through softmax."""
    n, k, h, w = p.shape
    flat = p.view(-1)
    inner = p.new_zeros(n * h * w)
    shares = []
    for step, (row, pixel), slope in zip(geometry.steps, places, slopes, strict=True):
        for near, inside in _taps(pixel, step, geometry.radius, h, w):
            share = flat.index_select(0, near + row * (h * w)) * slope
            if geometry.padding == "zero":
                share *= inside
            inner.index_add_(0, near + row // k * (h * w), share)
            shares.append(share)
    # p (G - <p, G>), where p G is the sum of the shares.
    p *= inner.neg_().view(n, 1, h, w)
    remaining = iter(shares)
    for step, (row, pixel) in zip(geometry.steps, places, strict=True):
        for near, _ in _taps(pixel, step, geometry.radius, h, w):
            flat.index_add_(0, near + row * (h * w), next(remaining))
    return p


def _taps(pixel: Tensor, step: Axis, radius: int, height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Each pixel of the rays from ``pixel`` ``[M]``, or the nearest in the image, and whether it lies in the image."""
    y = pixel // width
    x = pixel - y * width
    for tap in range(radius + 1):
        tap_y, tap_x = y + tap * step[0], x + tap * step[1]
        near_y, near_x = tap_y.clamp(0, height - 1), tap_x.clamp(0, width - 1)
        yield near_y * width + near_x, (tap_y == near_y) & (tap_x == near_x)


def _through_box(p: Tensor, row: Tensor, pixel: Tensor, slope: Tensor, rows: Tensor, geometry: _Geometry) -> Tensor:
    """Gradient by the logits for the standard convolution, written over ``p``: adjoint box sums of the slopes."""
    n, k, h, w = p.shape
    radius = geometry.radius
    fields = p.view(n * k, h, w)
    product = torch.zeros_like(fields)
    product.view(-1)[row.long() * (h * w) + pixel] = slope * ((radius + 1) / geometry.full)
    inner = p.new_zeros(n, h, w)
    block = max(1, _BLOCK_BYTES // (h * w * p.element_size()))
    for begin in range(0, len(rows), block):
        chosen = rows[begin : begin + block]
        field = product[chosen]
        if geometry.padding == "replicate":
            field = fold(box_sums(pad(field, radius, radius, "zero"), radius, "zero"), radius, radius)
        else:
            field = box_sums(field, radius, "zero")
        field = field * fields[chosen]
        product[chosen] = field
        inner.index_add_(0, chosen // k, field)
    p *= inner.neg_().unsqueeze(1)
    return p.add_(product.view_as(p))
