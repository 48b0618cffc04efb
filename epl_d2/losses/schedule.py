"""When a loss counts."""


def ramp(iteration: int | None, start_iter: int, ramp_iters: int) -> float:
    """Share of a weight that counts: 0 before ``start_iter``, then linearly up to 1 within ``ramp_iters`` iterations.

    None as the iteration stands for the end of the schedule.
    """
    if iteration is None:
        return 1.0
    if iteration < start_iter:
        return 0.0
    return min(1.0, (iteration - start_iter + 1) / max(1, ramp_iters))
