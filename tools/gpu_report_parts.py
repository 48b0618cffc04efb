#!/usr/bin/env python
"""One part of tools/gpu_report.py, which runs each of them in a process of its own: gpu_report_parts.py PART

A part appends a row of numbers to the file --rows as soon as it has measured it, a JSON object a line, so that what was
measured before a crash is not lost. Rows with the same "title" make one table.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from benchmark_inference import PROTOCOLS, measure, with_options
from benchmark_losses import extra_memory, make_scene, seconds

from epl_d2.commands import command
from epl_d2.data.datasets import dataset_root
from epl_d2.data.shapes import write_shapes
from epl_d2.engine import Trainer, read_config
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.losses import EPLLoss, kernels
from epl_d2.losses.arguments import SPLITTERS

ROOT = Path(__file__).resolve().parents[1]
FULL = SimpleNamespace(
    shapes=((4, 19, 512, 1024), (16, 21, 512, 512)),
    kernel_sizes=(7, 11),
    dtypes=(torch.float32, torch.bfloat16),
    repeats=15,
    copied=2**30,
    models=("deeplab_v3_plus_R_50_os16_epl", "semantic_fpn_R_50_epl"),
    crop=(512, 1024),
    batch=4,
    image=(1024, 2048),
    window=(769, 769),
    scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    scenes=(320, 40, 512),  # train, val, pixels a side; where there is no CamVid
    processes=(1, 2),
)
SMALL = SimpleNamespace(
    **{
        **vars(FULL),
        **{"shapes": ((1, 19, 96, 128),), "repeats": 2, "copied": 2**26, "crop": (64, 128), "batch": 2},
        **{"image": (128, 256), "window": (128, 128), "scales": (0.5, 1.0), "scenes": (32, 8, 128)},
    }
)
TINY = SimpleNamespace(
    **{
        **vars(SMALL),
        **{"shapes": ((1, 3, 24, 40),), "kernel_sizes": (7,), "dtypes": (torch.float32,), "repeats": 1},
        **{"models": ("deeplab_v3_plus_mobilenet_v2_os16_epl",)},
        **{"crop": (64, 64), "image": (64, 64), "window": (64, 64), "scales": (1.0,), "scenes": (4, 2, 64)},
        **{"processes": (1,)},
    }
)
SIZES = {"full": FULL, "small": SMALL, "tiny": TINY}
# Rows so far go here: (values) -> None.
Write = Callable[..., None]


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["environment", *MEASURE])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--scale", default="full", choices=list(SIZES))
    parser.add_argument("--rows", default="rows.jsonl", help="file that the rows are appended to (%(default)s)")
    args = parser.parse_args()
    if args.part == "environment":
        print(json.dumps(environment(args.device)))
        return 0

    def write(**values: Any) -> None:
        with open(args.rows, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    show = warnings.showwarning

    def note(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, RuntimeWarning):
            write(title="Warnings", warning=str(message))
        show(message, category, *where)

    warnings.showwarning = note
    warnings.simplefilter("always", RuntimeWarning)
    return MEASURE[args.part](args.device, SIZES[args.scale], write, Path(args.rows).resolve().parent) or 0


def environment(device: str) -> dict[str, Any]:
    """Versions, and what PyTorch says of the devices."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    for name in ("triton", "numba", "cv2", "detectron2", "torchvision"):
        try:
            found[name] = __import__(name).__version__
        except Exception as error:  # whatever a package does at its import
            found[name] = f"{type(error).__name__}: {error}"
    found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "hip": torch.version.hip}
    count = torch.cuda.device_count() if device == "cuda" and torch.cuda.is_available() else 0
    properties = [torch.cuda.get_device_properties(i) for i in range(count)]
    found["devices"] = [
        f"{x.name}, {x.total_memory / 2**30:.0f} GiB, capability {x.major}.{x.minor}, {x.multi_processor_count} SMs"
        for x in properties
    ]
    return found | {"cpu": f"{platform.machine()}, {torch.get_num_threads()} threads"}


def run_tests(device: str, sizes: SimpleNamespace, write: Write, output: Path) -> int:
    """The tests that need CUDA; without it, those of them that do not."""
    files = ["tests/losses/test_triton.py", "tests/losses/test_autograd.py", "tests/losses/test_never_waits.py"]
    result = output / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-m", "not slow", "-p", "no:cacheprovider"]
    files = files[: 1 if sizes is TINY else None]
    code = subprocess.run([*command, f"--junitxml={result}", *files], cwd=ROOT, check=False).returncode
    cases = ElementTree.parse(result).getroot().iter("testcase")
    outcomes = [(case.get("name"), {part.tag for part in case}) for case in cases]
    bad = [name for name, tags in outcomes if tags & {"failure", "error"}]
    skipped = sum("skipped" in tags for _, tags in outcomes)
    write(files=", ".join(files), passed=len(outcomes) - len(bad) - skipped, failed=len(bad), skipped=skipped)
    for name in bad:
        write(title="Failed", test=name)
    return code


def measure_losses(device: str, sizes: SimpleNamespace, write: Write, output: Path) -> None:
    bandwidth = copy_bandwidth(device, sizes.copied)
    write(title="Copying", bytes=sizes.copied, gigabytes_a_second=bandwidth / 1e9)
    for dtype in sizes.dtypes:
        for shape in sizes.shapes:
            for present in (shape[1], 1):
                logits, labels = (tensor.to(device) for tensor in make_scene(shape, present, seed=0))
                logits = logits.to(dtype).requires_grad_()
                title = f"{str(dtype).removeprefix('torch.')} {list(shape)}, {present} classes present"
                compare_losses(title, logits, labels, sizes, bandwidth, write)


def compare_losses(
    title: str, logits: torch.Tensor, labels: torch.Tensor, sizes: SimpleNamespace, bandwidth: float, write: Write
) -> None:
    """Rows of all losses on the same logits, which they meet in turns."""
    durations: dict[str, list[float]] = {}
    losses = losses_to_compare(sizes.kernel_sizes)
    for turn in range(sizes.repeats + 2):
        for name in list(losses):
            try:
                duration = seconds(losses[name][0], logits, labels)
            except Exception as error:  # of memory or of a compiler: the others go on
                write(title=title, loss=name, error=f"{type(error).__name__}: {str(error)[:200]}")
                del losses[name]
                durations.pop(name, None)
                continue
            if turn >= 2:  # compiled and warm
                durations.setdefault(name, []).append(duration)
    size = logits.numel() * logits.element_size()
    eager = durations.get("cross entropy", [])
    for name, mine in durations.items():
        loss, module = losses[name]
        ratio = statistics.median(a / b for a, b in zip(mine, eager, strict=True)) if eager else math.nan
        write(
            title=title,
            **{"loss": name, "ms": 1e3 * statistics.median(mine), "x eager cross entropy": ratio},
            **{"extra memory, x logits": extra_memory(loss, logits, labels) / size},
            **{"% of the copy bandwidth": 100 * 2 * size / bandwidth / statistics.median(mine)},
            computed_by=path_of(module, logits),
        )


def losses_to_compare(kernel_sizes: tuple[int, ...]) -> dict[str, tuple[Callable[..., torch.Tensor], EPLLoss | None]]:
    """Name -> loss, and the module if it is EPL. Cross entropy, eager and compiled, comes first."""

    def cross_entropy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(x.float(), y, ignore_index=255)

    found: dict[str, Any] = {"cross entropy": (cross_entropy, None)}
    found["cross entropy, compiled"] = (torch.compile(cross_entropy), None)
    modules = {}
    for w in kernel_sizes:
        both = {"point_kernel_size": w, "line_kernel_size": w}
        modules[f"EPL line, w {w}"] = EPLLoss(**both)
        modules[f"EPL line official mu 10, w {w}"] = EPLLoss(**both, formulation="official", mu=10)
        modules[f"EPL point, w {w}"] = EPLLoss(**both, point_weight=1, line_weight=0)
        modules[f"EPL point and line, w {w}"] = EPLLoss(**both, point_weight=1)
    w = kernel_sizes[0]
    modules[f"EPL point and line, w {w}, splitter {SPLITTERS[-1]}"] = EPLLoss(point_weight=1, splitter=SPLITTERS[-1])
    modules[f"EPL point and line, w {w}, plain path"] = EPLLoss(point_weight=1, backend="plain")
    for name, module in modules.items():
        found[name] = (lambda x, y, module=module: sum(module(x, y).values()), module)
    return found


def path_of(module: EPLLoss | None, logits: torch.Tensor) -> str:
    """What computes a loss: triton, numba or plain."""
    if module is None:
        return "PyTorch"
    term = module.line if module.line_weight else module.point
    name = kernels.choose(logits, term, module.backend).__name__.rpartition(".")[2]
    return {"guarded": "triton", "cpu": "numba"}.get(name, name)


def copy_bandwidth(device: str, size: int) -> float:
    """Bytes a second that a copy on the device reads and writes: the best of several."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = math.inf
    for _ in range(10):
        started = clock(device)
        target.copy_(source)
        best = min(best, clock(device) - started)
    return 2 * size / best


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure_steps(device: str, sizes: SimpleNamespace, write: Write, output: Path) -> None:
    for name in sizes.models:
        base = f"configs/Cityscapes/{name}.yaml"
        options = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", device]
        cfgs = {
            layout: read_config(ROOT / base, [*options, "MODEL.MEMORY_FORMAT", layout])
            for layout in ("contiguous", "channels_last")
        }
        title = f"{base}, {sizes.batch} crops of {sizes.crop[0]} x {sizes.crop[1]}"
        compare_steps(title, device, cfgs, sizes, write)


def compare_steps(title: str, device: str, cfgs: dict[str, Any], sizes: SimpleNamespace, write: Write) -> None:
    """Rows of one model's step with and without EPL, mixed precision and channels-last, in turns."""
    variants = {}
    for layout, cfg in cfgs.items():
        model = Trainer.build_model(cfg).train()
        optimizer = Trainer.build_optimizer(cfg, model)
        for amp in (False, True):
            for epl in (None, model.sem_seg_head.epl):
                variants[epl is not None, amp, layout] = (model, optimizer, epl)
    batch = random_batch(sizes, model.sem_seg_head.ignore_value)
    half = torch.float16 if device == "cuda" else torch.bfloat16
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
    durations, peaks = {key: [] for key in variants}, {}
    for turn in range(sizes.repeats + 2):
        for key, (model, optimizer, epl) in variants.items():
            model.sem_seg_head.epl = epl
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            started = clock(device)
            with torch.autocast(device, half) if key[1] else nullcontext():
                loss = sum(model(batch).values())
            optimizer.zero_grad()
            if key[1]:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            else:
                loss.backward()
                optimizer.step()
            if turn >= 2:
                durations[key].append(clock(device) - started)
            if device == "cuda":
                peaks[key] = torch.cuda.max_memory_allocated() / 2**20
    baselines = {key[1:]: statistics.median(durations[key]) for key in variants if not key[0]}
    for key, mine in durations.items():
        step = statistics.median(mine)
        write(
            title=title,
            **{"loss": "cross entropy + EPL" if key[0] else "cross entropy"},
            **{"precision": f"{str(half).removeprefix('torch.')} (AMP)" if key[1] else "float32", "layout": key[2]},
            **{"ms": 1e3 * step, "images/s": sizes.batch / step, "x the step without EPL": step / baselines[key[1:]]},
            **({"peak memory of all variants and this one's step, MiB": peaks[key]} if peaks else {}),
        )


def random_batch(sizes: SimpleNamespace, ignore_value: int) -> list[dict[str, torch.Tensor]]:
    """Noise with labels of regions, as the loader hands them in."""
    generator = torch.Generator().manual_seed(0)
    _, labels = make_scene((sizes.batch, 19, *sizes.crop), 19, seed=0)
    labels[labels == 255] = ignore_value
    images = torch.randint(0, 256, (sizes.batch, 3, *sizes.crop), dtype=torch.uint8, generator=generator)
    return [{"image": image, "sem_seg": label} for image, label in zip(images, labels, strict=True)]


def measure_inference(device: str, sizes: SimpleNamespace, write: Write, output: Path) -> None:
    name = f"configs/Cityscapes/{sizes.models[0].removesuffix('_epl')}.yaml"
    options = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", device, "TEST.WINDOW.SIZE", list(sizes.window)]
    cfg = read_config(ROOT / name, [*options, "TEST.AUG.SCALES", list(sizes.scales)])
    model = Trainer.build_model(cfg).eval()
    height, width = sizes.image
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    title = f"{name}, {height} x {width} pixels, windows of {sizes.window[0]} x {sizes.window[1]}"
    for protocol, options in PROTOCOLS.items():
        passes, whole, forward, _, memory = measure(model, with_options(cfg, options), image, min(3, sizes.repeats))
        write(
            title=title,
            **{"protocol": protocol, "passes": passes, "s an image": whole, "s in the model": forward},
            **{"peak memory, MiB": memory},
        )
    _, labels = make_scene((1, 19, height, width), 19, seed=0)
    target = labels[0].numpy()
    prediction = np.roll(np.where(target == 255, 0, target), 3, axis=1)
    counted = BoundaryStatistics(19, range(1, 21))
    counted.update(prediction, target)  # compiled
    started = time.perf_counter()
    counted.update(prediction, target)
    write(
        title="Boundary evaluation, 20 widths, on the CPU", pixels=target.size, ms=1e3 * (time.perf_counter() - started)
    )


def measure_training(device: str, sizes: SimpleNamespace, write: Write, output: Path) -> int:
    root, config, options, images = training_data(sizes, output)
    batch = 16 if "CamVid" in config else min(8, images)
    iterations = math.ceil(images / batch)
    options += [
        "MODEL.WEIGHTS",
        "",
        "MODEL.DEVICE",
        device,
        "SOLVER.IMS_PER_BATCH",
        batch,
        "SOLVER.MAX_ITER",
        iterations,
    ]
    options += ["SOLVER.CHECKPOINT_PERIOD", iterations, "TEST.EVAL_PERIOD", 0]
    failed = 0
    for processes in sizes.processes:
        if device == "cuda" and torch.cuda.device_count() < processes:
            write(title="Not run", config=config, processes=processes, why=f"{torch.cuda.device_count()} devices")
            continue
        folder = output / f"training_{processes}"
        command = [sys.executable, "train_net.py", "--config-file", config, "--num-gpus", str(processes)]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, *map(str, [*options, "OUTPUT_DIR", folder])],
            cwd=ROOT,
            env={**os.environ, "DETECTRON2_DATASETS": root},
            check=False,
        )
        failed |= done.returncode
        if done.returncode == 0:
            write(config=config, processes=processes, images=images, batch=batch, **trained(folder, started))
        else:
            write(title="Failed", config=config, processes=processes, exit_status=done.returncode)
    return failed


def training_data(sizes: SimpleNamespace, output: Path) -> tuple[str, str, list[Any], int]:
    """Root of the data sets, config, its options, and images an epoch: CamVid at full scale, else generated scenes."""
    train, val, side = sizes.scenes
    camvid = Path(dataset_root()).resolve() / "camvid" / "train"
    if sizes is FULL and camvid.is_dir():
        count = sum(path.suffix in (".jpg", ".png") for path in camvid.iterdir())
        return str(camvid.parents[1]), "configs/CamVid/deeplab_v3_plus_R_50_os16_epl.yaml", [], count
    write_shapes(str(output / "scenes" / "shapes"), train=train, val=val, size=(side, side), seed=0)
    options = ["INPUT.CROP.SIZE", [side, side]]
    return str(output / "scenes"), "configs/shapes/deeplab_v3_plus_mobilenet_v2_epl.yaml", options, train


def trained(folder: Path, started: float) -> dict[str, Any]:
    """What a finished training says of itself."""
    wall = time.perf_counter() - started
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    metrics = {key: value for line in lines for key, value in line.items()}
    names = {"time": "s an iteration", "data_time": "s of waiting for data", "total_loss": "loss at the end"}
    found = {title: metrics[key] for key, title in names.items() if key in metrics}
    scores = {key.removeprefix("sem_seg/"): metrics.get(key) for key in ("sem_seg/mIoU", "sem_seg/BF@3px")}
    return {"s in all, with start and evaluation": wall, **found, **scores}


MEASURE = {
    "tests": run_tests,
    "losses": measure_losses,
    "steps": measure_steps,
    "inference": measure_inference,
    "training": measure_training,
}

if __name__ == "__main__":
    sys.exit(main())
