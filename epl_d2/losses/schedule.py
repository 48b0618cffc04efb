"""When a loss counts."""


def ramp(iteration: float | None, start_iter: int, ramp_iters: int) -> float:
    """Share of a weight that counts: 0 before ``start_iter``, then linearly up to 1 within ``ramp_iters`` iterations.

    Args:
        iteration: where training stands; infinity stands for the end of the schedule. None: unknown, which does where
            there is no schedule.
        start_iter, ramp_iters: the schedule.

    Raises:
        ValueError: there is a schedule, and the iteration is None.
    """
    if start_iter == 0 and ramp_iters == 0:
        return 1.0
    if iteration is None:
        raise ValueError(
            f"iteration must be given where a loss has a schedule (start_iter {start_iter}, ramp_iters {ramp_iters}), "
            "got None: pass where training stands, or math.inf for the full weight"
        )
    if iteration < start_iter:
        return 0.0
    return min(1.0, (iteration - start_iter + 1) / max(1, ramp_iters))
