"""An error that a user can put right is one sentence and an exit code; a bug keeps its traceback."""

import ast
import logging
import os
import runpy
import subprocess
import sys
import traceback
from io import StringIO
from pathlib import Path

import pytest
import torch
from detectron2.modeling import BACKBONE_REGISTRY
from torch.multiprocessing import ProcessRaisedException
from torch.utils.data import DataLoader

from epl_d2 import get_cfg
from epl_d2.commands import TRACEBACK, command, expected_reason
from epl_d2.data.label_io import read_image
from epl_d2.engine.setup import keep_expected_tracebacks_in_the_log
from epl_d2.losses import EPLLoss

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(path for folder in (".", "tools", "demo", "datasets") for path in ROOT.joinpath(folder).glob("*.py"))
COMMANDS.remove(ROOT / "setup.py")  # pip's
HERE = __file__


def caught(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("no error")


def in_another_process(function):
    """The error that torch's `start_processes` makes of one of its processes'."""
    try:
        function()
    except Exception:
        return ProcessRaisedException(
            f"\n\n-- Process 1 terminated with the following error:\n{traceback.format_exc()}", 1, 7
        )


def raise_here():
    raise ValueError("made by hand")


EXPECTED = {
    "a check of ours": (lambda: EPLLoss(stride=0), "stride must be an integer of at least 1, got 0"),
    "a key": (lambda: get_cfg().merge_from_list(["MODEL.NONE", 1]), "Non-existent key: MODEL.NONE"),
    "an odd list": (lambda: get_cfg().merge_from_list(["MODEL.NONE"]), "odd length"),
    "a registry": (lambda: BACKBONE_REGISTRY.get("Nothing"), "No object named 'Nothing' found in 'BACKBONE' registry!"),
    "a file": (lambda: Path("/none/such").read_text(), "/none/such: No such file or directory"),
    "a picture": (lambda: read_image("/none/such.png"), "/none/such.png"),
}


@pytest.mark.parametrize("where", [caught, in_another_process])
@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_user_can_put_right_is_a_sentence(name, where):
    function, sentence = EXPECTED[name]
    reason = expected_reason(where(function))
    assert sentence in reason and "Traceback" not in reason


BUGS = {
    "a key that is not there": lambda: {}["key"],
    "a name of the config that the code gets wrong": lambda: get_cfg().NO_SUCH_KEY,
    "a library's complaint": lambda: torch.zeros(2) @ torch.zeros(3),
    "an error of somebody else's": raise_here,
    "an assertion without words": lambda: ast.literal_eval("x"),
}


@pytest.mark.parametrize("where", [caught, in_another_process])
@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_none(name, where):
    assert expected_reason(where(BUGS[name])) is None
    assert expected_reason(caught(raise_here), HERE) == "made by hand"


class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return EPLLoss(stride=index)


def test_the_error_of_a_worker_is_a_sentence():
    error = caught(lambda: next(iter(DataLoader(Pictures(), num_workers=1))))
    assert expected_reason(error) == EXPECTED["a check of ours"][1]


def test_a_command_says_it_and_ends(capsys, monkeypatch):
    assert command(lambda: None)() == 0 and command(lambda: 3)() == 3

    def interrupted():
        raise KeyboardInterrupt

    assert command(interrupted)() == 130 and capsys.readouterr().err == "interrupted\n"
    assert command(raise_here)() == 1 and capsys.readouterr().err == "error: made by hand\n"
    with pytest.raises(KeyError):
        command(BUGS["a key that is not there"])()
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(ValueError, match="made by hand"):
        command(raise_here)()


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_every_command_ends_like_that(path):
    text = path.read_text(encoding="utf-8")
    entries = [
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and [ast.unparse(d) for d in node.decorator_list] == ["command"]
    ]
    assert len(entries) == 1, "decorate what the command calls with `command` of epl_d2.commands"
    assert text.endswith(f'if __name__ == "__main__":\n    sys.exit({entries[0]}())\n')


def test_train_net_refuses_a_lazy_config_before_anything_starts(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_net.py", "--config-file", "x.py", "--num-gpus", "2"])
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")
    said = capsys.readouterr().err
    assert said.startswith("error: --config-file x.py: ") and "lazyconfig_train_net.py" in said
    assert said.count("\n") == 1


def test_two_processes_say_it_once(tmp_path):
    arguments = (
        *("--config-file", "configs/shapes/deeplab_v3_plus_mobilenet_v2_epl.yaml", "--num-gpus", "2"),
        *("--dist-url", f"file://{tmp_path}/rendezvous", "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "0"),
        *("OUTPUT_DIR", str(tmp_path / "out")),
    )
    done = subprocess.run(
        [sys.executable, "train_net.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "SOLVER.MAX_ITER" in line]
    assert said == ["error: SOLVER.MAX_ITER is 0, expected a positive number of iterations"]
    assert "Traceback" not in done.stderr


def test_the_terminal_shows_the_tracebacks_of_bugs_alone_and_the_log_all(capsys):
    log = StringIO()
    handlers = [logging.StreamHandler(sys.stdout), logging.StreamHandler(log)]
    logger = logging.getLogger("detectron2")
    before, logger.handlers = logger.handlers, handlers
    try:
        keep_expected_tracebacks_in_the_log()
        for function in (EXPECTED["a check of ours"][0], BUGS["a key that is not there"]):
            try:
                function()
            except Exception:
                logging.getLogger("detectron2.engine.train_loop").exception("Exception during training:")
    finally:
        logger.handlers = before
    shown, kept = capsys.readouterr().out, log.getvalue()
    assert "KeyError: 'key'" in shown and "stride must be" not in shown
    assert "KeyError: 'key'" in kept and "ValueError: stride must be" in kept
