"""The checkpoints of a training: whole or absent on disk, found again after any end, read without running code."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm

from epl_d2.files import remove_stale_temporaries, whole_file

from .files import check_finite, check_whole, read_checkpoint, save_tensors
from .loading import check_fit, convolutions_of, local_file, warn_of_other_convolutions
from .pretrained import named_weights
from .state_dict import StateDict

__all__ = ["BEST", "Checkpointer"]

# The best model so far, which `last_checkpoint` never names.
BEST = "model_best"

_LAST = "last_checkpoint"
_COUNTER = "num_batches_tracked"

logger = logging.getLogger(__name__)


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer for training.

    A file has its name only when all of it is on the disk. Files that are read may come from anybody: tensors and
    arrays alone are taken from them.
    """

    def save(self, name: str, **extra: Any) -> None:
        """Write NAME.pth and, but for the best model, let `last_checkpoint` name it.

        Raises:
            OSError: it cannot be written; the message names the file, the space left and the checkpoints that are kept.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), "convolutions": convolutions_of(self.model)}
        data |= {key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()}
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        try:
            save_tensors(data | extra, path)
            if name != BEST:
                self.tag_last_checkpoint(path.name)
        except OSError as error:
            kept = ", ".join(file.name for file in self._by_age()) or "none"
            raise OSError(error.errno, f"{error.strerror}; checkpoints that are kept: {kept}", str(path)) from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with whole_file(Path(self.save_dir, _LAST), durable=True) as temporary:
            temporary.write_text(last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Whether there is something to resume from, be it damaged."""
        return Path(self.save_dir, _LAST).is_file() or bool(self._by_age())

    def get_checkpoint_file(self) -> str:
        """The checkpoint to resume from: that of `last_checkpoint` or, if it is damaged, the newest one that loads.

        The main process looks, and all processes go by what it finds. It also removes what a killed process left half
        written.

        Returns:
            Its path; "" if there is no checkpoint at all.

        Raises:
            ValueError: there are checkpoints, but none of them can be read.
        """
        found, complaint = self._find_checkpoint() if comm.is_main_process() else ("", "")
        found, complaint = comm.all_gather((found, complaint))[0]
        if complaint:
            raise ValueError(complaint)
        return found

    def _find_checkpoint(self) -> tuple[str, str]:
        """The path to resume from and "", or "" and why there is none."""
        remove_stale_temporaries(self.save_dir)
        candidates = self._by_age()
        last = Path(self.save_dir, _LAST)
        complaints = []
        if last.is_file():
            named = last.read_text(encoding="utf-8", errors="replace").strip()
            if named:
                path = Path(self.save_dir, named)
                candidates = [path, *(other for other in candidates if other != path)]
            else:
                complaints.append(f"{last} is empty")
        for path in candidates:
            try:
                if path.suffix != ".pkl":
                    check_whole(path)
                read_checkpoint(path)
            except (OSError, ValueError) as error:
                complaints.append(str(error))
                continue
            if complaints:
                logger.warning("; ".join([*complaints, f"resuming from {path} instead"]))
            return str(path), ""
        if not complaints:
            return "", ""
        return "", (
            f"--resume finds no checkpoint that loads in {self.save_dir}: {'; '.join(complaints)}. Put a whole one "
            f"there, or train anew without --resume"
        )

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load weights to begin with, or all that a checkpoint holds to go on.

        Args:
            path: file or address; "" loads nothing. To begin with, also a name of `NAMED_WEIGHTS`.
            checkpointables: None goes on from a checkpoint, which must fit the model entry for entry. [] takes the
                entries that fit, with one line about the others.

        Returns:
            What else the file holds.

        Raises:
            FileNotFoundError: there is no such file, or it cannot be fetched.
            ValueError: the file is no checkpoint, does not fit, or holds weights that are not finite.
        """
        path = os.fspath(path)
        if checkpointables is not None:
            path = _named_everywhere(path)
        if path:
            _require_everywhere(path)
        self._file, self._must_fit = path, checkpointables is None
        try:
            return super().load(path, checkpointables)
        finally:
            self._parsed_url_during_load = None  # Detectron2 expects so, and leaves it after an error

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.endswith((".pkl", ".pyth")):
            return super()._load_file(filename)
        content = read_checkpoint(filename)
        if filename.endswith(".pyth"):  # pycls
            states = {name: t for name, t in content.get("model_state", {}).items() if not name.endswith(_COUNTER)}
            return {"model": states, "__author__": "pycls", "matching_heuristics": True}
        if "model" in content and "__author__" in content:  # Detectron2's model zoo
            return content
        arrays = {k: v for k, v in content.get("blobs", content).items() if not k.endswith("_momentum")}
        return {"model": arrays, "__author__": "Caffe2", "matching_heuristics": True}

    def _torch_load(self, f: str) -> dict[str, Any]:
        return read_checkpoint(f)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        given = checkpoint["model"]
        if not isinstance(given, dict):
            raise ValueError(f'{self._file} holds a {type(given).__name__} under "model"; a dict was expected')
        try:
            self._convert_ndarray_to_tensor(given)
        except ValueError as error:
            raise ValueError(f"{self._file}: {error}") from error
        check_finite(given, self._file)
        warn_of_other_convolutions(checkpoint, self.model, self._file)
        wanted = self.model.state_dict()
        if self._must_fit:
            check_fit(_without_module(given), wanted, self._file)
        held = f"{len(given)} entries ({_examples(given)})"
        incompatible = super()._load_model(checkpoint)
        expected = {name: value for name, value in wanted.items() if not name.endswith(_COUNTER)}
        if expected and expected.keys() <= set(incompatible.missing_keys):
            raise ValueError(
                f"MODEL.WEIGHTS {self._file}: none of its {held} fits one of the {len(expected)} of the model "
                f"({_examples(expected)}). tools/convert_checkpoint.py converts checkpoints of "
                'other projects; MODEL.WEIGHTS "" trains from random weights'
            )
        return incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """One line instead of one a layer."""
        sizes = [name for name, _, _ in incompatible.incorrect_shapes]
        groups = {
            "of another size": sizes,
            "of the model not in the file": [name for name in incompatible.missing_keys if name not in sizes],
            "of the file not in the model": incompatible.unexpected_keys,
        }
        said = []
        for what, names in groups.items():
            names = [name for name in names if not name.endswith(_COUNTER)]
            if names:
                said.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        if said:
            logger.warning(f"{self._file}: entries {'; '.join(said)}")

    def _by_age(self) -> list[Path]:
        """The whole training checkpoints of the folder, newest first; the best model comes last."""
        files = [p for p in Path(self.save_dir).glob("model_*.pth") if re.fullmatch(r"model_(\d+|final|best)", p.stem)]
        return sorted(files, key=lambda p: (p.stem == BEST, -p.stat().st_mtime, p.name))


def _named_everywhere(path: str) -> str:
    """`named_weights`, fetched by one process of each machine before the others look."""
    complaint = ""
    for first in (True, False):
        if (comm.get_local_rank() == 0) == first:
            try:
                path = named_weights(path)
            except (OSError, ValueError) as error:
                complaint = str(error)
        for said in comm.all_gather(complaint):
            if said:
                raise FileNotFoundError(said)
    return path


def _require_everywhere(path: str) -> None:
    """Raise FileNotFoundError, in all processes, unless all of them can read `path`."""
    complaint = ""
    try:
        local_file(path.removesuffix("?matching_heuristics=True"))  # Detectron2's way to ask for renaming
    except FileNotFoundError as error:
        complaint = str(error)
    complaints = comm.all_gather(complaint)
    for rank, complaint in enumerate(complaints):
        if complaint:
            where = f" for process {rank}, but all processes must read it" if not all(complaints) else ""
            raise FileNotFoundError(complaint + where)


def _examples(state_dict: StateDict) -> str:
    shown = [f"{name} {list(value.shape)}" for name, value in list(state_dict.items())[:3]]
    return ", ".join([*shown, "..."]) if len(state_dict) > 3 else ", ".join(shown) or "none"


def _without_module(state_dict: StateDict) -> StateDict:
    if not all(name.startswith("module.") for name in state_dict):
        return state_dict
    return {name.removeprefix("module."): value for name, value in state_dict.items()}
