"""Files that are whole or absent, and the cores that this process may use."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = [
    "free_space",
    "publish",
    "remove_stale_temporaries",
    "temporary_beside",
    "usable_cores",
    "whole_file",
    "whole_folder",
    "write_whole",
]

# As `temporary_beside` makes them: .STEM.HOST-PROCESS-TOKEN.partial.SUFFIX
_TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]+)-(?P<process>\d+)-[0-9a-f]{6}\.partial(\.[^.]*)?")

# Bytes of the stem and of the suffix in a temporary name, which has no more than 255 with those of host and process.
_STEM, _SUFFIX = 100, 32

# Where Linux shows a control group's share of the processors, as "MICROSECONDS PERIOD" or "max PERIOD".
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, *, suffix: str | None = None, durable: bool = False) -> Iterator[Path]:
    """A temporary name to write to, which becomes `path` when the block ends, and is gone when it fails.

    So that under `path` there is the old file or the new one, never a part. A missing folder is made.

    Args:
        path: the file.
        suffix: of the temporary name, with its dot, for writers that go by it; None takes that of `path`.
        durable: wait until the disk has the file, so that a power cut does not take it. Costs milliseconds to seconds.

    Raises:
        OSError: the file cannot be written; names `path` (or its folder, which cannot be made), and the space left
            where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path, suffix)
    try:
        yield temporary
        publish(temporary, path, durable=durable)
    except OSError as error:
        about = (None, str(temporary), str(path))
        if error.errno is None or error.filename not in about:  # raised by hand, or of a file that was read meanwhile
            raise
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason += f" ({free_space(path.parent)} free)"
        kept = "; the file that stood there is kept" if path.is_file() else ""
        raise OSError(error.errno, f"cannot be written: {reason}{kept}", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends, and is gone when it fails.

    Args:
        path: a folder that does not exist, or is empty. A missing folder around it is made.

    Raises:
        OSError: `path` holds something, or cannot be made.
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_whole(path: str | os.PathLike, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Let `write` fill the temporary of `whole_file`."""
    with whole_file(path, durable=durable) as temporary:
        write(temporary)


def temporary_beside(path: str | os.PathLike, suffix: str | None = None) -> Path:
    """A hidden name in the folder of `path` that nobody else uses, with its suffix unless another is given.

    Long stems and suffixes are cut, so that every name that a file system takes has one that it takes, too.
    """
    path = Path(path)
    stem, suffix = _cut(path.stem, _STEM), _cut(path.suffix if suffix is None else suffix, _SUFFIX)
    return path.with_name(f".{stem}.{_host()}-{os.getpid()}-{secrets.token_hex(3)}.partial{suffix}")


def publish(temporary: str | os.PathLike, path: str | os.PathLike, *, durable: bool = False) -> None:
    """Rename `temporary` to `path`, in one step for every reader; `durable` as in `write_whole`."""
    if durable:
        _flush(temporary)
    os.replace(temporary, path)
    if durable and os.name == "posix":  # a folder cannot be opened elsewhere
        _flush(Path(path).parent)


def remove_stale_temporaries(folder: str | os.PathLike, older_than: float = 3600.0) -> list[Path]:
    """Remove what writers that were killed left in `folder`, not below it.

    A temporary of this machine is stale when its process is gone, one of another machine after `older_than` seconds
    without a change.

    Returns:
        The files removed.
    """
    removed = []
    for file in Path(folder).glob(".*.partial*"):
        name = _TEMPORARY.fullmatch(file.name)
        with contextlib.suppress(OSError):
            if name is None:
                continue
            if name["host"] == _host():
                stale = not _is_running(int(name["process"]))
            else:
                stale = time.time() - file.stat().st_mtime > older_than
            if stale:
                file.unlink()
                removed.append(file)
    return removed


def free_space(folder: str | os.PathLike) -> str:
    """Space left on the file system of `folder`, for messages."""
    try:
        left = shutil.disk_usage(folder).free
    except OSError:
        return "an unknown amount"
    return f"{left / 2**20:,.0f} MiB"


def usable_cores() -> int:
    """Cores that this process may use: those of its affinity, no more than the CPU quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota() or cores))


def _quota() -> int | None:
    """Whole cores that a control group (version 2) grants in every period; None where it sets no bound."""
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return None


def _flush(path: str | os.PathLike) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cut(text: str, most: int) -> str:
    """The first characters of a name that fit into so many bytes."""
    while len(os.fsencode(text)) > most:
        text = text[:-1]
    return text


def _host() -> str:
    return socket.gethostname().split(".")[0]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True
