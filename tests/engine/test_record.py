"""`run.json` of a training that is started by hand: all that a model card wants to know, over all attempts."""

import json
import logging
import platform
import sys
from pathlib import Path

import pytest
import torch

import epl_d2
from epl_d2.engine import Trainer
from epl_d2.provenance import describe_commit
from epl_d2.run_record import KEPT_ELSEWHERE, load_record

SMALL = {"TEST.EVAL_PERIOD": 0, "TEST.BEST_CHECKPOINT_METRIC": "", "SOLVER.CHECKPOINT_PERIOD": 100}


def train(cfg, resume=False):
    trainer = Trainer(cfg)
    trainer.test = lambda *_: {}
    trainer.resume_or_load(resume=resume)
    trainer.train()


def test_a_training_records_where_it_comes_from_and_a_resumed_one_adds_up(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_net.py", "--config-file", "x.yaml", "SEED", "7"])
    train(tiny_config(tmp_path, **SMALL, **{"SOLVER.MAX_ITER": 1, "SEED": 7}))
    first = load_record(tmp_path)
    assert first["command"] == ["train_net.py", "--config-file", "x.yaml", "SEED", "7"]
    assert (first["seed"], first["iterations"], first["attempts"]) == (7, 1, 1)
    assert first["commits"] == [describe_commit(Path(__file__).parents[2])["commit"]]
    threads = torch.get_num_threads()
    assert first["device"].endswith(f", {threads} thread{'s' if threads > 1 else ''}")
    versions = {"python": platform.python_version(), "epl_d2": epl_d2.__version__}
    assert versions.items() <= first["versions"].items() and first["versions"]["detectron2"]
    assert torch.__version__.startswith(first["versions"]["torch"])

    # As if the first attempt had taken an hour.
    attempts = tmp_path / "attempts.jsonl"
    attempt = json.loads(attempts.read_text())
    attempts.write_text(json.dumps({**attempt, "started": attempt["ended"] - 3600}) + "\n")
    train(tiny_config(tmp_path, **SMALL, **{"SOLVER.MAX_ITER": 2, "SEED": 7}), resume=True)
    second = load_record(tmp_path)
    assert (second["iterations"], second["attempts"]) == (2, 2)
    assert 60 <= second["minutes"] < 70

    # Trained anew, nothing of it counts.
    train(tiny_config(tmp_path, **SMALL, **{"SOLVER.MAX_ITER": 1}))
    assert load_record(tmp_path)["attempts"] == 1 and load_record(tmp_path)["minutes"] < 10


def test_what_ended_a_training_is_recorded(tiny_config, tmp_path, monkeypatch):
    def run_step(self):
        if self.iter == 2:
            raise FloatingPointError("the loss is gone")

    monkeypatch.setattr(Trainer, "run_step", run_step)
    with pytest.raises(FloatingPointError):
        train(tiny_config(tmp_path, **SMALL))
    record = load_record(tmp_path)
    assert record["error"] == "FloatingPointError: the loss is gone" and record["iterations"] == 2


def test_records_of_grids_and_files_of_others_stay(tiny_config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Trainer, "run_step", lambda self: None)
    monkeypatch.setenv(KEPT_ELSEWHERE, "1")
    train(tiny_config(tmp_path / "grid", **SMALL))
    assert not (tmp_path / "grid" / "run.json").exists()
    monkeypatch.delenv(KEPT_ELSEWHERE)
    for text in (json.dumps({"method": "epl", "seed": 1, "metrics": {}, "commits": []}), "something else"):
        (tmp_path / "run.json").write_text(text)
        with caplog.at_level(logging.WARNING):
            train(tiny_config(tmp_path, **SMALL))
        assert (tmp_path / "run.json").read_text() == text
    assert "the record of this run is not kept" in caplog.text
