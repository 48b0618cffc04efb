#!/usr/bin/env python
"""Everything about EPL on a GPU in one report: tests, losses, training steps, inference and a real training.

    python tools/gpu_report.py                            # or make gpu-report: about half an hour on one GPU
    python tools/gpu_report.py --device cpu               # the same program at small sizes, in a few minutes
    python tools/gpu_report.py --parts losses steps --limit 300

Each part runs in a process of its own with a time limit. Where one fails or is stopped the others still run, and what
it had measured until then is in the report: OUTPUT/report.md for reading, OUTPUT/report.json with every number, and
OUTPUT/PART.log with what each part printed. The exit status is 1 if a part failed.

The training takes CamVid where it finds it below DETECTRON2_DATASETS, else it generates scenes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate

from epl_d2.commands import command
from epl_d2.files import write_whole

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
PARTS = {
    "tests": "The tests that need the device",
    "losses": "Losses, forward and backward",
    "steps": "A training step",
    "inference": "An image at test time",
    "training": "One epoch, as train_net.py trains it",
}
# What a report is made of on a GPU, on a CPU, and in the test suite (gpu_report_parts.py).
SCALES = ("full", "small", "tiny")


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--scale", choices=SCALES, help="sizes (default: full on cuda, small on cpu)")
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="of a part (%(default)g)")
    parser.add_argument("--output", default="output/gpu_report", help="folder of the report (%(default)s)")
    args = parser.parse_args()
    scale = args.scale or ("full" if args.device == "cuda" else "small")
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    environment = describe(args.device)
    if args.device == "cuda" and not environment["devices"]:
        parser.error("--device cuda: torch.cuda.is_available() is False; --device cpu runs the same program on a CPU")
    report = {"command": " ".join(sys.argv), "scale": scale, "environment": environment, "parts": []}
    for name in PARTS:
        if name not in args.parts:
            continue
        print(f"{name}: {PARTS[name].lower()} ...", end=" ", flush=True)
        part = run_part(name, args.device, scale, output, args.limit)
        report["parts"].append(part)
        print(f"{part['state']}, {part['seconds']:.0f} s", flush=True)
        # After each part, so that there is a report even if this process is killed.
        write_whole(output / "report.json", lambda path: path.write_text(json.dumps(report, indent=1)))
        write_whole(output / "report.md", lambda path: path.write_text(as_markdown(report), encoding="utf-8"))
    print(f"{output / 'report.md'}, {output / 'report.json'}")
    return int(any(part["state"] != "finished" for part in report["parts"]))


def describe(device: str) -> dict[str, Any]:
    """Versions, devices and clocks, read in a process of its own: CUDA stays unused in this one."""
    command = [sys.executable, str(TOOLS / "gpu_report_parts.py"), "environment", "--device", device]
    done = subprocess.run(command, cwd=ROOT, env=environment_of_parts(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: PyTorch or this project cannot be imported here:\n{done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "clocks": clocks(), "started": time.strftime("%Y-%m-%d %H:%M")}


def clocks() -> str:
    """What nvidia-smi says of driver, clocks and power, a line a GPU; why not, where it says nothing."""
    if shutil.which("nvidia-smi") is None:
        return "not read: no nvidia-smi"
    fields = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not read: {error}"
    return f"{fields}\n{done.stdout.strip()}" if done.returncode == 0 else f"not read: {done.stderr.strip()}"


def environment_of_parts() -> dict[str, str]:
    """This process's, with the repository first among what can be imported."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_part(name: str, device: str, scale: str, output: Path, limit: float) -> dict[str, Any]:
    """Run a part, and read what it has measured, however it ended."""
    rows, log = output.resolve() / f"{name}.jsonl", output / f"{name}.log"
    rows.unlink(missing_ok=True)
    command = [sys.executable, str(TOOLS / "gpu_report_parts.py"), name, "--device", device, "--scale", scale]
    started = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--rows", str(rows)],
            cwd=ROOT,
            env=environment_of_parts(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            state = "finished" if code == 0 else f"failed (exit status {code})"
        except subprocess.TimeoutExpired:
            state = f"stopped after its limit of {limit:g} s"
        finally:
            stop(process)
    part = {"name": name, "state": state, "seconds": time.monotonic() - started, "rows": list(read_rows(rows))}
    if state != "finished":
        part["end of the log"] = log.read_text(errors="replace").splitlines()[-25:]
    return part


def stop(process: subprocess.Popen) -> None:
    """End a part with all the processes that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a part; the last line may be cut off."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def as_markdown(report: dict[str, Any]) -> str:
    """The report for reading: a section a part, a table for each kind of its rows."""
    environment = dict(report["environment"])
    read = environment.pop("clocks")
    lines = [
        "# EPL on " + ("; ".join(environment["devices"]) or "a CPU"),
        "",
        f"`{report['command']}`, {report['scale']}",
    ]
    lines += ["", tabulate(flat(environment), ("", ""), tablefmt="github"), "", "```", read, "```"]
    for part in report["parts"]:
        lines += ["", f"## {PARTS[part['name']]}", "", f"{part['state']}, {part['seconds']:.0f} s"]
        for title, rows in grouped(part["rows"]):
            lines += ["", *([f"**{title}**", ""] if title else [])]
            lines.append(tabulate(rows, "keys", tablefmt="github", floatfmt=".4g", missingval="-"))
        if "end of the log" in part:
            lines += ["", "```", *part["end of the log"], "```"]
    return "\n".join(lines) + "\n"


def flat(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for key, value in values.items()
    ]


def grouped(rows: Iterable[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Rows with the same title, in the order of their first one."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get("title", ""), []).append({k: v for k, v in row.items() if k != "title"})
    return list(groups.items())


if __name__ == "__main__":
    sys.exit(main())
