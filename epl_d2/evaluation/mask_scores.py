"""The file of scores that an evaluation of masks leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from epl_d2.files import write_whole

__all__ = ["MASK_SCORES_FILE", "read_mask_scores", "write_mask_scores"]

MASK_SCORES_FILE = "mask_scores.json"


def write_mask_scores(folder: str | Path, results: Mapping[str, Mapping[str, float]]) -> Path:
    """Write the scores of every task as "TASK/NAME", percent; null where undefined. Returns the file."""
    scores = {
        f"{task}/{name}": value if math.isfinite(value) else None
        for task, values in results.items()
        for name, value in values.items()
    }
    file = Path(folder, MASK_SCORES_FILE)
    text = json.dumps(scores, indent=1) + "\n"
    write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))
    return file


def read_mask_scores(file: str | Path) -> dict[str, float | None]:
    """What `write_mask_scores` wrote.

    Raises:
        ValueError: the file is missing or is no such record.
    """
    try:
        scores = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}; were masks evaluated?") from error
    except ValueError as error:
        raise ValueError(f"{file}: no record of the evaluator ({error!r})") from error
    if not isinstance(scores, dict):
        raise ValueError(f"{file}: no record of the evaluator, expected names and numbers")
    return scores
