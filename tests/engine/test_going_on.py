"""A training that was cut off goes on as if it had not been, whatever the end left on the disk."""

import contextlib
import logging
import os
import pickle
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from detectron2.engine import hooks
from detectron2.utils.events import get_event_storage

from epl_d2.engine import Trainer
from epl_d2.engine.stopping import StopOnSignal, Stopped


def train(cfg, *, resume=False, before=lambda trainer: None):
    torch.manual_seed(1)  # of the weights to begin with, as `default_setup` does it
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume)
    before(trainer)
    trainer.train()
    return trainer


def content(path):
    return torch.load(path, weights_only=True)


def same_weights(ours, expected):
    return same(content(ours)["model"], content(expected)["model"])


def same(ours, expected):
    if isinstance(expected, dict):
        return ours.keys() == expected.keys() and all(same(ours[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(ours) == len(expected) and all(map(same, ours, expected))
    return torch.equal(ours, expected) if isinstance(expected, torch.Tensor) else ours == expected


def keep_best_of_half(trainer):
    """Keep the best model as it is when half of the iterations are done and evaluated."""

    def keep(trainer):
        if trainer.iter == 2:
            folder = Path(trainer.cfg.OUTPUT_DIR)
            shutil.copy(folder / "model_best.pth", folder / "best_of_half.pth")

    trainer.register_hooks([hooks.CallbackHook(before_step=keep)])


@pytest.fixture(scope="module")
def whole(tiny_config, tmp_path_factory):
    """The folder of a training of four iterations with dropout that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(tiny_config(folder), before=keep_best_of_half)
    return folder


@pytest.fixture
def half(whole, tmp_path):
    """What that training had written when half of it was done."""
    shutil.copy(whole / "model_0000001.pth", tmp_path)
    shutil.copy(whole / "best_of_half.pth", tmp_path / "model_best.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    return tmp_path


def test_dropout_goes_on_bit_for_bit(tiny_config, whole, half):
    cfg = tiny_config(half)
    assert cfg.MODEL.SEM_SEG_HEAD.ASPP_DROPOUT > 0
    train(cfg, resume=True)
    assert same_weights(half / "model_final.pth", whole / "model_final.pth")


def test_a_seed_that_was_drawn_is_that_of_the_checkpoint(tiny_config, tmp_path):
    options = {"SEED": -1, "TEST.EVAL_PERIOD": 0, "TEST.BEST_CHECKPOINT_METRIC": "", "DATASETS.TEST": ()}
    first, second = tmp_path / "first", tmp_path / "second"
    train(tiny_config(first, **options))
    second.mkdir()
    shutil.copy(first / "model_0000001.pth", second)
    train(tiny_config(second, **options), resume=True)  # there is no last_checkpoint
    assert same_weights(second / "model_final.pth", first / "model_final.pth")


def test_files_appear_whole_and_last_checkpoint_names_no_best_model(tiny_config, tmp_path, monkeypatch):
    seen, flushed = [], set()
    replace, fsync = os.replace, os.fsync

    def watched(source, target):
        name = os.path.basename(target)
        content_is_whole = not name.endswith(".pth") or "model" in content(source)
        is_safe = os.stat(source).st_ino in flushed or not (name.endswith(".pth") or name == "last_checkpoint")
        seen.append((name, content_is_whole and is_safe))
        replace(source, target)

    def noted(descriptor):
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", watched)
    monkeypatch.setattr(os, "fsync", noted)
    train(tiny_config(tmp_path, **{"TEST.EVAL_PERIOD": 1, "SOLVER.CHECKPOINT_PERIOD": 3}))
    names = [name for name, _ in seen]
    assert {"model_best.pth", "model_0000002.pth", "model_final.pth", "last_checkpoint"} <= set(names)
    assert all(is_whole_on_disk for _, is_whole_on_disk in seen)
    assert names.index("model_best.pth") < names.index("model_0000002.pth")  # the best came first ...
    assert names[names.index("last_checkpoint") - 1] == "model_0000002.pth"  # ... and was not tagged
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "flipped", "no last_checkpoint", "empty tag"])
def test_the_newest_checkpoint_that_loads_is_taken_and_said(tiny_config, half, whole, caplog, damage):
    newest = half / "model_0000003.pth"
    data = (whole / "model_0000003.pth").read_bytes()
    (half / "last_checkpoint").write_text(newest.name)
    (half / ".model_0000003.elsewhere-1-0a1b2c.partial.pth").write_bytes(b"half")
    os.utime(half / ".model_0000003.elsewhere-1-0a1b2c.partial.pth", (0, 0))
    if damage == "truncated":
        newest.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        newest.write_bytes(b"")
    elif damage == "flipped":
        middle = len(data) // 2
        newest.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    elif damage == "no last_checkpoint":
        (half / "last_checkpoint").unlink()
    elif damage == "empty tag":
        (half / "last_checkpoint").write_text("")
    checkpointer = Trainer(tiny_config(half)).checkpointer
    assert checkpointer.get_checkpoint_file() == str(half / "model_0000001.pth")
    if damage != "no last_checkpoint":
        file = "last_checkpoint is empty" if damage == "empty tag" else newest.name
        assert file in caplog.text and f"resuming from {half / 'model_0000001.pth'} instead" in caplog.text
    assert not list(half.glob(".*"))


def test_without_a_checkpoint_that_loads_the_files_are_named(tiny_config, tmp_path):
    for name in ("model_0000001.pth", "model_best.pth"):
        (tmp_path / name).write_bytes(b"PK half")
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    with pytest.raises(ValueError, match=r"no checkpoint that loads.*0000001\.pth.*best\.pth.*anew without --resume"):
        Trainer(tiny_config(tmp_path)).resume_or_load(resume=True)


class Runs:
    def __reduce__(self):
        return print, ("code in the checkpoint runs",)


def test_last_checkpoint_may_name_what_others_wrote(tiny_config, half, caplog, capsys):
    (half / "theirs.pkl").write_bytes(pickle.dumps({"model": Runs(), "__author__": ""}))
    (half / "last_checkpoint").write_text("theirs.pkl")
    found = Trainer(tiny_config(half)).checkpointer.get_checkpoint_file()
    assert found == str(half / "model_0000001.pth")
    assert "theirs.pkl is refused" in caplog.text and "could run code" in caplog.text
    assert "checkpoint runs" not in capsys.readouterr().out


def test_the_best_score_survives(tiny_config, half, whole):
    best = content(half / "model_best.pth")["best"]
    torch.save({**content(half / "model_best.pth"), "best": {**best, "value": 99.0}}, half / "model_best.pth")
    trainer = train(tiny_config(half), resume=True)
    hook = next(hook for hook in trainer._hooks if isinstance(hook, hooks.BestCheckpointer))
    assert hook.best_metric == 99.0
    assert content(half / "model_best.pth")["best"]["value"] == 99.0


class Killed(Exception):
    """In the place of a signal that nothing survives."""


@contextlib.contextmanager
def evaluations_killed():
    def end(*_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "test", end)
        yield


def test_an_evaluation_that_was_killed_is_made_up(tiny_config, whole, tmp_path):
    cfg = tiny_config(tmp_path)
    with evaluations_killed():
        train(cfg)
    assert not (tmp_path / "model_best.pth").exists()
    train(cfg, resume=True, before=keep_best_of_half)
    assert same(content(tmp_path / "best_of_half.pth"), content(whole / "best_of_half.pth"))
    assert content(tmp_path / "best_of_half.pth")["best"]["iteration"] == 1
    for name in ("model_best.pth", "model_final.pth"):
        assert same(content(tmp_path / name), content(whole / name)), name


def test_the_last_evaluation_is_made_up_too(tiny_config, tmp_path):
    calm, torn = (tiny_config(tmp_path / name, **{"TEST.EVAL_PERIOD": 0}) for name in ("calm", "torn"))
    train(calm)
    with evaluations_killed():
        train(torn)
    train(torn, resume=True)
    ours, expected = (tmp_path / name / "model_best.pth" for name in ("torn", "calm"))
    assert same(content(ours), content(expected)) and content(expected)["best"]["iteration"] == 4
    # Where it is all that is left it is no step ahead of the training.
    for file in ("model_0000001.pth", "model_0000003.pth", "model_final.pth", "last_checkpoint"):
        (tmp_path / "torn" / file).unlink()
    trainer = Trainer(torn)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 4


def test_a_signal_ends_an_evaluation_that_is_made_up(tiny_config, whole, half, monkeypatch):
    (half / "model_best.pth").unlink()
    with monkeypatch.context() as signalled, pytest.raises(Stopped) as stopped:
        signalled.setattr(Trainer, "test", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or pytest.fail("went on"))
        train(tiny_config(half), resume=True)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert (half / "last_checkpoint").read_text() == "model_0000001.pth"
    assert same(content(half / "model_0000001.pth"), content(whole / "model_0000001.pth"))
    train(tiny_config(half), resume=True, before=keep_best_of_half)
    assert same(content(half / "best_of_half.pth"), content(whole / "best_of_half.pth"))
    assert same_weights(half / "model_final.pth", whole / "model_final.pth")


@pytest.mark.parametrize("period, at", [(2, [1, 4]), (3, [2, 4]), (0, [4])])
def test_no_other_evaluation_is_made_up(tiny_config, half, monkeypatch, period, at):
    """From the second step, after which there is an evaluation or none, to the fourth."""
    seen = []
    monkeypatch.setattr(Trainer, "test", lambda *_: seen.append(get_event_storage().iter) or {})
    train(tiny_config(half, **{"TEST.EVAL_PERIOD": period}), resume=True)
    assert seen == at


def test_a_longer_and_a_shorter_schedule(tiny_config, whole, half, tmp_path_factory, caplog):
    rates = {}

    def note(name, trainer):
        trainer.register_hooks(
            [
                hooks.CallbackHook(
                    before_step=lambda t: rates.setdefault(name, []).append(t.optimizer.param_groups[0]["lr"])
                )
            ]
        )

    options = {"TEST.EVAL_PERIOD": 0, "TEST.BEST_CHECKPOINT_METRIC": "", "DATASETS.TEST": ()}
    longer = tiny_config(tmp_path_factory.mktemp("longer"), **{"SOLVER.MAX_ITER": 6, **options})
    train(longer, before=lambda trainer: note("longer", trainer))
    # From the middle, and from the end: the rates are those of a training that was planned so long.
    for folder, start in ((half, 2), (tmp_path_factory.mktemp("finished"), 4)):
        if start == 4:
            shutil.copy(whole / "model_final.pth", folder)
            (folder / "last_checkpoint").write_text("model_final.pth")
        cfg = tiny_config(folder, **{"SOLVER.MAX_ITER": 6, **options})
        train(cfg, resume=True, before=lambda trainer, start=start: note(start, trainer))
        assert rates[start] == rates["longer"][start:]
        assert content(folder / "model_final.pth")["iteration"] == 5
    shorter = tiny_config(half, **{"SOLVER.MAX_ITER": 3, **options})  # of which six are done
    train(shorter, resume=True)
    assert "has done 6 iterations and SOLVER.MAX_ITER is 3: nothing is left to train" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_training_after_the_step_with_a_checkpoint(tiny_config, whole, tmp_path, caplog, number):
    def interrupt(trainer):
        callback = hooks.CallbackHook(before_step=lambda t: t.iter == 0 and os.kill(os.getpid(), number))
        trainer.register_hooks([callback])

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        train(tiny_config(tmp_path), before=interrupt)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert f"stopped by {number.name} after 1 of 4 iterations; go on by the same command with --resume" in caplog.text
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000000.pth"
    train(tiny_config(tmp_path), resume=True)
    assert same_weights(tmp_path / "model_final.pth", whole / "model_final.pth")


def test_a_signal_ends_an_evaluation_where_it_is(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "test", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or pytest.fail("went on"))
    with pytest.raises(Stopped):
        train(tiny_config(tmp_path, **{"SOLVER.CHECKPOINT_PERIOD": 4}))
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    assert content(tmp_path / "model_0000001.pth")["iteration"] == 1


def test_a_second_ctrl_c_ends_the_process_where_it_is():
    child = os.fork()
    if not child:
        StopOnSignal(None).before_train()
        os.kill(os.getpid(), signal.SIGINT)
        os.write(2, b"the first one lets the step go on\n")
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT


def test_a_full_disk_names_the_file_the_space_and_what_is_kept(tiny_config, half):
    trainer = Trainer(tiny_config(half))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # as good as full: writes fail midway
    try:
        with pytest.raises(OSError, match=r"File too large; .*kept: model_0000001\.pth, model_best\.pth.*0000009\.pth"):
            trainer.checkpointer.save("model_0000009")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in half.iterdir() if path.suffix == ".pth"} == {"model_0000001.pth", "model_best.pth"}
    assert (half / "last_checkpoint").read_text() == "model_0000001.pth"


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO, "epl_d2")
