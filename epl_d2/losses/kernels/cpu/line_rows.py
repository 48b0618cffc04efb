"""Compiled kernels of the line loss on a CPU.

A job is one row: a class in an image where it occurs. Along each axis its energies are computed in strips of image
rows that stay in the cache, and never stored: three sweeps (two in `measure`, one in `differentiate`) compute the same
bits again, which is cheaper than memory.

Which pixels have their energy at the wanted ranks is found without sorting. Floats of at least 0 sort like their bits:
a histogram of the upper bits tells the bins in which the lowest and the highest wanted rank lie, and only
the pixels in these two bins are looked at further. Equal energies rank in the order of pixels. Without ranks
(`find_band`, `measure_band`) the labels alone say which pixels count.

Shape shorthand in this module: N images, K classes, H x W pixels, J rows whose class occurs, A axes, D directions of an
axis, C possible counts of pixels in a window, r lines, B bins, T threads, M pixels in the two bins.
"""

import numpy as np

from epl_d2.compilation import compiled

from .strips import add, clear, copy, field_sums, fill_margins, fold_margins

# Rows of the scratch: what is summed, the sums, three that `field_sums` needs, and for energies the slopes.
_SOURCE, _FIELD, _SPARE, _SLOPES = 0, 1, 2, 5
# Where exp(-d^mu) is taken as 0: exp(-110) is less than float32 can hold.
_VANISHED = 110.0


@compiled
def measure(slot, job, rows, scene, geometry, lines, scratch, shift, bins, ranks, broken, histograms, sums):
    """Find the predicted lines of one row in each direction, and the sums over them.

    Args:
        rows: image * K + class, ``[J]``.
        scene: p ``[N, K, H, W]``, and seen and position ``[N, H, W]``: see `line.value_and_gradient`.
        geometry: axes, origins and taps (see `strips.geometry`), and whether the edge of the image is replicated
            beyond it (else it is 0).
        lines: activations g by count and line ``[C, r]``, mu, the first count on a line, and the first above.
        scratch: energies ``[T, 6, ...]``, the same memory as integers, and counts ``[T, 5, ...]``.
        shift: the bits of an energy that do not tell its bin.
        bins: scratch ``[T, D, B]``, of which the last bin takes what is not a number.
        ranks: what tells the predicted line pixels, ``[A, D, J, 4]``: the bits of their lowest and highest energy, how
            many pixels with the lowest come before them, and how many with the highest belong to them.
        broken: whether a row has energies that are not numbers, ``[J]``.
        histograms: number of all pixels and of the predicted line pixels by count, ``[2, A, D, J, C]``.
        sums: of h and of g h over the predicted line pixels, ``[2, A, D, J, r]``.
    """
    plane, seen, position, label = _row(rows[job], scene)
    axes, origins, taps, replicate = geometry
    g, mu, low_count, full_count = lines
    energies, counts = scratch[0][slot], scratch[2][slot]
    energy, bits, count = energies[_FIELD], scratch[1][slot, _FIELD], counts[_FIELD]
    bins = bins[slot]
    height, width = plane.shape
    directions, reach = len(bins), taps - 1
    radius = reach // 2 if directions == 1 else reach
    pitch = width + 2 * radius
    strip = len(bits) // pitch - reach - 2
    # Bin of the lowest rank and its rank there, the same of the highest; nothing wanted: bin 1 and 0.
    wanted = np.empty((directions, 4), np.int64)
    found = np.empty(directions, np.int64)
    for a in range(len(axes)):
        room = 0
        for d in range(directions):
            clear(bins[d])
        for stage in range(2):
            if stage == 1:
                for d in range(directions):
                    if bins[d, bins.shape[1] - 1]:
                        broken[job] = True
                        return
                    _find_bins(bins[d], histograms[0, a, d, job], low_count, full_count, wanted[d])
                    room = max(room, bins[d, wanted[d, 0]] + bins[d, wanted[d, 2]])
                clear(found)
            near_bits = np.empty((directions, room), bits.dtype)
            near = np.empty((directions, room), energies.dtype), np.empty((directions, room), np.int64)
            for first in range(origins[a, directions - 1, 0], height, strip):
                deep = min(strip, height - first)
                _energies(plane, seen, label, first, deep, axes[a], taps, radius, replicate, energies, counts)
                for i in range(deep):
                    for d in range(directions):
                        y = first + i - origins[a, d, 0]
                        if y < 0 or y >= height:
                            continue
                        start = i * pitch + radius + origins[a, d, 1]
                        end = start + width
                        if stage == 0:
                            histogram = histograms[0, a, d, job]
                            _count(bits[start:end], count[start:end], position[y], shift, bins[d], histogram)
                        elif wanted[d, 0] <= wanted[d, 2]:
                            line = bits[start:end], energy[start:end], count[start:end], position[y]
                            totals = histograms[1, a, d, job], sums[0, a, d, job], sums[1, a, d, job]
                            bounds = wanted[d, 0], wanted[d, 2], shift
                            nearby = near_bits[d], near[0][d], near[1][d]
                            found[d] = _select(line, bounds, nearby, found[d], g, mu, totals)
        for d in range(directions):
            rank = ranks[a, d, job]
            if wanted[d, 0] > wanted[d, 2]:
                rank[0], rank[1] = 1, 0
                continue
            rank[0], rank[2] = order_statistic(near_bits[d, : found[d]], wanted[d, 0], wanted[d, 1], shift)
            rank[1], rank[3] = order_statistic(near_bits[d, : found[d]], wanted[d, 2], wanted[d, 3], shift)
            rank[3] += 1
            ties = np.zeros(2, np.int64)
            for m in range(found[d]):
                if _is_chosen(near_bits[d, m], rank, ties):
                    totals = histograms[1, a, d, job], sums[0, a, d, job], sums[1, a, d, job]
                    _accumulate(near[0][d, m], near[1][d, m], g, mu, totals)


@compiled
def find_band(slot, job, rows, scene, geometry, lines, scratch, on_target, band):
    """Mark the pixels within r steps, both ways along its ray, of a line of the target; of a square, within it.

    Args:
        on_target: scratch, ``[T, H, W]``: a bit for each direction in which a pixel is on a line.
        band: the result, ``[J, H, W]``: the same for the band.
        The others: see `measure`.
    """
    plane, seen, position, label = _row(rows[job], scene)
    axes, origins, taps, _ = geometry
    low_count, full_count = lines[2], lines[3]
    counts, line, wide = scratch[2][slot], on_target[slot], band[job]
    height, width = plane.shape
    directions, reach = origins.shape[1], taps - 1
    box = directions == 1
    radius = reach // 2 if box else reach
    pitch = width + 2 * radius
    strip = counts.shape[1] // pitch - reach - 2
    for y in range(height):
        clear(line[y])
        clear(wide[y])
    for a in range(len(axes)):
        for first in range(origins[a, directions - 1, 0], height, strip):
            deep = min(strip, height - first)
            _hits(seen, label, first, deep, axes[a], taps, radius, True, counts)
            for i in range(deep):
                for d in range(directions):
                    y = first + i - origins[a, d, 0]
                    if 0 <= y < height:
                        start = i * pitch + radius + origins[a, d, 1]
                        bit = 1 << (a * directions + d)
                        _mark(counts[_FIELD, start : start + width], position[y], low_count, full_count, bit, line[y])
    if box:  # along the rows in place of a ray, then along the columns
        for y in range(height):
            for step in range(-radius, radius + 1):
                _add_bits(line[y], step, 1, wide[y])
        for y in range(height):
            copy(wide[y], width, line[y])
    for a in range(len(axes)):
        dy, dx = axes[a, 0], 0 if box else axes[a, 1]
        bits = 1 if box else 3 << (2 * a)
        for y in range(height):
            for step in range(-radius, radius + 1):
                if 0 <= y + step * dy < height:
                    _add_bits(line[y + step * dy], step * dx, bits, wide[y])
    for y in range(height):
        for x in range(width):
            wide[y, x] = wide[y, x] if position[y, x] else 0


@compiled
def measure_band(slot, job, rows, scene, geometry, lines, scratch, band, broken, histograms, sums):
    """The sums over the band around the lines of one row in each direction, in place of the lines of `measure`.

    Args:
        band: see `find_band`.
        The others: see `measure`; the first histogram is left alone, as the band is the same for both.
    """
    plane, seen, position, label = _row(rows[job], scene)
    axes, origins, taps, replicate = geometry
    g, mu = lines[0], lines[1]
    energies, counts = scratch[0][slot], scratch[2][slot]
    energy, count = energies[_FIELD], counts[_FIELD]
    height, width = plane.shape
    directions, reach = origins.shape[1], taps - 1
    radius = reach // 2 if directions == 1 else reach
    pitch = width + 2 * radius
    strip = len(energy) // pitch - reach - 2
    for a in range(len(axes)):
        for first in range(origins[a, directions - 1, 0], height, strip):
            deep = min(strip, height - first)
            _energies(plane, seen, label, first, deep, axes[a], taps, radius, replicate, energies, counts)
            for i in range(deep):
                for d in range(directions):
                    y = first + i - origins[a, d, 0]
                    if y < 0 or y >= height:
                        continue
                    start = i * pitch + radius + origins[a, d, 1]
                    bit = 1 << (a * directions + d)
                    totals = histograms[1, a, d, job], sums[0, a, d, job], sums[1, a, d, job]
                    for x in range(width):
                        if position[y, x] and np.isnan(energy[start + x]):
                            broken[job] = True
                        elif band[job, y, x] & bit:
                            _accumulate(energy[start + x], count[start + x], g, mu, totals)


@compiled
def differentiate(slot, job, rows, scene, geometry, lines, scratch, ranks, band, factors, quotients, shares):
    """Gradient of the loss by the probabilities of one row, times these probabilities.

    Args:
        band: see `find_band`; empty where ranks tell the pixels that count.
        factors, quotients: the slope of the loss by an energy E is the sum over the lines tau of
            factor * (g - quotient) * (E - tau)^(mu - 1) * h, ``[A, D, J, r]``.
        shares: the result, ``[J, H, W]``.
        The others: see `measure`.
    """
    plane, seen, position, label = _row(rows[job], scene)
    axes, origins, taps, replicate = geometry
    g, mu = lines[0], lines[1]
    energies, counts = scratch[0][slot], scratch[2][slot]
    energy, bits, count = energies[_FIELD], scratch[1][slot, _FIELD], counts[_FIELD]
    height, width = plane.shape
    directions, reach = origins.shape[1], taps - 1
    box = directions == 1
    radius = reach // 2 if box else reach
    pitch = width + 2 * radius
    strip = len(bits) // pitch - reach - 2
    share, slopes = shares[job], energies[_SLOPES]
    for y in range(height):
        clear(share[y])
    ties = np.empty((directions, 2), np.int64)
    for a in range(len(axes)):
        # Windows of earlier rows that reach into a strip are kept before its own.
        kept = reach * axes[a, 0]
        base = taps + kept * pitch
        clear(slopes)
        for d in range(directions):
            clear(ties[d])
        below = radius * axes[a, 0] if replicate else 0
        for first in range(origins[a, directions - 1, 0], height + below, strip):
            deep = min(strip, height + below - first)
            _energies(plane, seen, label, first, deep, axes[a], taps, radius, replicate, energies, counts)
            clear(slopes[base : base + deep * pitch])
            for i in range(deep):
                for d in range(directions):
                    y = first + i - origins[a, d, 0]
                    if 0 <= y < height:
                        start = i * pitch + radius + origins[a, d, 1]
                        end = start + width
                        line = bits[start:end], energy[start:end], count[start:end], position[y]
                        weights = factors[a, d, job], quotients[a, d, job]
                        out = slopes[base + start : base + end]
                        if len(band):
                            _add_slopes_of_band(line, band[job, y], 1 << (a * directions + d), g, mu, weights, out)
                        else:
                            _add_slopes(line, ranks[a, d, job], ties[d], g, mu, weights, out)
            if box:
                for i in range(base, base + deep * pitch):
                    slopes[i] = slopes[i] * (radius + 1) / (taps * taps)
            start = base - reach * (axes[a, 0] * pitch + axes[a, 1])
            back = energies[_SOURCE]
            field_sums(slopes[start:], deep, pitch, axes[a], taps, box, back, _spares(energies))
            for i in range(deep):
                row = back[i * pitch : (i + 1) * pitch]
                if replicate:
                    fold_margins(row, radius, width)
                if replicate or 0 <= first + i < height:
                    add(share[min(max(first + i, 0), height - 1)], row[radius:], width)
            copy(slopes[taps + deep * pitch :], kept * pitch, slopes[taps:])
    for y in range(height):
        for x in range(width):
            share[y, x] = share[y, x] * plane[y, x] if seen[y, x] else 0


@compiled
def through_softmax(slot, job, rows, scene, shares, places, inner):
    """Replace p by p G - p <p, G> in a few rows of pixels of an image.

    Args:
        rows: how many a job has; the last of an image may have less.
        shares: p G of the rows whose class occurs, ``[J, H, W]``; places: index of each class there or -1, ``[N, K]``.
        inner: scratch, ``[T, W]``.
    """
    p, seen, _ = scene
    image, block = divmod(job, -(-p.shape[2] // rows))
    inner = inner[slot]
    for y in range(block * rows, min((block + 1) * rows, p.shape[2])):
        clear(inner)
        for k in range(p.shape[1]):
            if places[image, k] >= 0:
                add(inner, shares[places[image, k], y], len(inner))
        here = seen[image, y]
        for k in range(p.shape[1]):
            row = p[image, k, y]
            for x in range(len(inner)):
                row[x] = -row[x] * inner[x] if here[x] else 0
            if places[image, k] >= 0:
                add(row, shares[places[image, k], y], len(inner))


@compiled
def _row(row, scene):
    p, seen, position = scene
    image, k = divmod(row, p.shape[1])
    return p[image, k], seen[image], position[image], k + 1


@compiled
def _spares(scratch):
    return scratch[_SPARE], scratch[_SPARE + 1], scratch[_SPARE + 2]


@compiled
def _energies(plane, seen, label, first, deep, axis, taps, radius, replicate, energies, counts):
    """Energies of prediction and target (as counts) in ``deep`` rows of windows from the row ``first`` on.

    They are written to ``energies[1]`` and ``counts[1]``; what else these have is scratch.
    """
    height, width = plane.shape
    pitch = width + 2 * radius
    source = energies[_SOURCE]
    for i in range(deep + (taps - 1) * axis[0]):
        y = min(max(first + i, 0), height - 1)
        row = source[i * pitch : (i + 1) * pitch]
        if replicate or y == first + i:
            _mask(plane[y], seen[y], row[radius : radius + width])
        else:
            clear(row)
        fill_margins(row, radius, width, replicate)
    box = taps > radius + 1
    field = energies[_FIELD]
    field_sums(source, deep, pitch, axis, taps, box, field, _spares(energies))
    _hits(seen, label, first, deep, axis, taps, radius, replicate, counts)
    if box:
        for i in range(deep * pitch):  # rounded after each step, as in the plain loss
            field[i] = field[i] * (radius + 1)
        for i in range(deep * pitch):
            field[i] = field[i] / (taps * taps)


@compiled
def _hits(seen, label, first, deep, axis, taps, radius, replicate, counts):
    """How many pixels of windows are of a class: `_energies` of the target alone, to ``counts[1]``."""
    height, width = seen.shape
    pitch = width + 2 * radius
    one_hot = counts[_SOURCE]
    for i in range(deep + (taps - 1) * axis[0]):
        y = min(max(first + i, 0), height - 1)
        ones = one_hot[i * pitch : (i + 1) * pitch]
        if replicate or y == first + i:
            _equal(seen[y], label, ones[radius : radius + width])
        else:
            clear(ones)
        fill_margins(ones, radius, width, replicate)
    field_sums(one_hot, deep, pitch, axis, taps, taps > radius + 1, counts[_FIELD], _spares(counts))


@compiled
def _mask(p, seen, out):
    for x in range(len(p)):
        out[x] = p[x] if seen[x] else 0


@compiled
def _equal(seen, label, out):
    for x in range(len(seen)):
        out[x] = seen[x] == label


@compiled
def _mark(counts, position, low_count, full_count, bit, out):
    """Set a bit where a position has a count on a line."""
    for x in range(len(counts)):
        if position[x] and low_count <= counts[x] < full_count:
            out[x] |= bit


@compiled
def _add_bits(source, shift, bits, out):
    """``out[x] |= source[x + shift] & bits`` where there is such a pixel."""
    # Slices, not sums of indices, which may be negative for all that the compiler knows: it would not vectorize.
    source, out = source[max(0, shift) :], out[max(0, -shift) :]
    for x in range(min(len(source), len(out))):
        out[x] |= source[x] & bits


@compiled
def _count(bits, counts, position, shift, bins, histogram):
    """Add the positions of an image row to both histograms."""
    last = len(bins) - 1
    for x in range(len(position)):
        one = position[x] != 0
        bins[min((bits[x] >> shift) & 0xFFFF, last)] += one
        histogram[counts[x]] += one


@compiled
def _find_bins(bins, histogram, low_count, full_count, wanted):
    """Bin and rank within the bin of the lowest and of the highest wanted rank."""
    low = 0
    for c in range(low_count):
        low += histogram[c]
    high = low
    for c in range(low_count, full_count):
        high += histogram[c]
    wanted[0], wanted[2] = 1, 0
    if low == high:
        return
    below = 0
    for b in range(len(bins)):
        if below <= low < below + bins[b]:
            wanted[0], wanted[1] = b, low - below
        if below < high <= below + bins[b]:
            wanted[2], wanted[3] = b, high - 1 - below
            return
        below += bins[b]


@compiled
def order_statistic(bits, prefix, rank, shift):
    """The number of a rank among ``bits`` that begin with ``prefix`` above ``shift``, and its rank among its equals."""
    digits = np.empty(256, np.int64)
    while shift:
        clear(digits)
        rest = max(shift - 8, 0)
        for m in range(len(bits)):
            if bits[m] >> shift == prefix:
                digits[(bits[m] >> rest) & 255] += 1
        # Where less than eight bits are left, the first of them repeat the last of the prefix.
        digit = (prefix << (shift - rest)) & 255
        while rank >= digits[digit]:
            rank -= digits[digit]
            digit += 1
        prefix = (prefix << (shift - rest)) | digit
        shift = rest
    return prefix, rank


@compiled
def _is_chosen(bits, rank, ties):
    """Whether a pixel is one of the predicted line pixels; ``ties`` counts those with the lowest and highest energy."""
    if bits < rank[0] or bits > rank[1]:
        return False
    chosen = True
    if bits == rank[0]:
        chosen = ties[0] >= rank[2]
        ties[0] += 1
    if bits == rank[1]:
        chosen = chosen and ties[1] < rank[3]
        ties[1] += 1
    return chosen


@compiled
def _select(line, bounds, near, found, g, mu, totals):
    """Add up the pixels of an image row in the bins between the two bounds, and list those in the bounds."""
    bits, energies, counts, position = line
    low, high, shift = bounds
    for x in range(len(position)):
        b = bits[x] >> shift
        if b < low or b > high or position[x] == 0:
            continue
        if low < b < high:
            _accumulate(energies[x], counts[x], g, mu, totals)
        else:
            near[0][found], near[1][found], near[2][found] = bits[x], energies[x], counts[x]
            found += 1
    return found


@compiled
def _accumulate(energy, count, g, mu, totals):
    selected, sum_h, sum_gh = totals
    selected[count] += 1
    bound = _VANISHED ** (1 / mu)
    for line in range(g.shape[1]):
        distance = np.float64(energy) - (line + 1)
        if abs(distance) < bound:
            h = np.exp(-_power(distance, mu))
            sum_h[line] += h
            sum_gh[line] += h * g[count, line]


@compiled
def _add_slopes(line, rank, ties, g, mu, weights, out):
    bits, energies, counts, position = line
    for x in range(len(position)):
        if bits[x] < rank[0] or bits[x] > rank[1] or position[x] == 0 or not _is_chosen(bits[x], rank, ties):
            continue
        out[x] += _slope(energies[x], counts[x], g, mu, weights)


@compiled
def _add_slopes_of_band(line, band, bit, g, mu, weights, out):
    _, energies, counts, _ = line
    for x in range(len(band)):
        if band[x] & bit:
            out[x] += _slope(energies[x], counts[x], g, mu, weights)


@compiled
def _slope(energy, count, g, mu, weights):
    factors, quotients = weights
    bound = _VANISHED ** (1 / mu)
    slope = 0.0
    for tau in range(len(factors)):
        distance = np.float64(energy) - (tau + 1)
        if abs(distance) < bound:
            odd = _power(distance, mu - 1)
            slope += factors[tau] * (g[count, tau] - quotients[tau]) * odd * np.exp(-odd * distance)
    return slope


@compiled
def _power(base, exponent):
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
