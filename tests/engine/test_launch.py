"""Who starts the processes of a training, what they say of one that is missing, and that none outlives its launcher."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch.distributed as dist

from epl_d2.engine import launch as launching
from epl_d2.engine.launch import Place, has_lost_a_process, launch, place_from_environment

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "first",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "node-[03-04]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "1234567",
}


def test_the_places_that_torchrun_and_srun_give():
    assert place_from_environment(TORCHRUN) == Place(5, 8, 1, 4, "env://")
    assert place_from_environment(SRUN) == Place(5, 8, 1, 4, "tcp://node-03:34567")
    alone = {**SRUN, "SLURM_STEP_NODELIST": "laptop,other", "SLURM_STEP_TASKS_PER_NODE": "8"}
    assert place_from_environment(alone).url == "tcp://laptop:34567"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # the script around srun
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_process_of_its_own_has_no_place(environment):
    assert place_from_environment(environment) is None


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"MASTER_ADDR, MASTER_PORT are not"):
        place_from_environment({k: v for k, v in TORCHRUN.items() if not k.startswith("MASTER")})
    with pytest.raises(ValueError, match=r"Slurm runs 4,3 tasks"):
        place_from_environment({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "4,3"})
    with pytest.raises(ValueError, match=r"--dist-timeout is 0"):
        launch(print, (), timeout=0)
    with pytest.raises(ValueError, match=r"--num-gpus is -1, expected a number of processes of at least 0"):
        launch(print, (), num_gpus=-1)
    for machines in (0, -2):
        with pytest.raises(ValueError, match=rf"--num-machines is {machines}, expected a positive number of machines"):
            launch(print, (), num_machines=machines)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"--num-gpus 2 .*started 8 processes already"):
        launch(print, (), num_gpus=2)


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_no_gpu_is_one_process(num_gpus, monkeypatch):
    ran = []
    launch(ran.append, ("alone",), num_gpus=num_gpus)
    assert ran == ["alone"]
    monkeypatch.setattr(launching, "_spawn", lambda function, args, *where: ran.append(where))
    launch(ran.append, (), num_gpus=num_gpus, num_machines=2, machine_rank=1, dist_url="tcp://first:1", timeout=3)
    assert ran[1:] == [(1, 2, 1, "tcp://first:1", 3)]


TOLD = """
from detectron2.utils import comm
from epl_d2.engine.launch import launch

def tell():
    places = comm.all_gather((comm.get_rank(), comm.get_local_rank(), comm.get_local_size()))
    print(places == [(0, 0, 2), (1, 1, 2)], comm.get_rank())

launch(tell, (), timeout=1)
"""


@pytest.mark.slow
def test_processes_that_torchrun_starts_are_one_training():
    port = str(20000 + os.getpid() % 10000)  # below those that the system gives away while these processes start
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", TOLD],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=300)[0].strip() for process in processes]
    assert said == ["True 0", "True 1"] and not any(process.returncode for process in processes)


def test_errors_that_another_process_caused_are_told_from_others():
    assert has_lost_a_process(dist.DistNetworkError("timed out"))
    assert has_lost_a_process(RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed"))
    assert not has_lost_a_process(RuntimeError("shape '[2]' is invalid"))
    assert not has_lost_a_process(ValueError("gloo"))


def test_the_lost_process_is_named(monkeypatch):
    monkeypatch.setattr(launching, "_INQUIRY", 0.5)
    store = dist.HashStore()
    for rank in range(4):
        store.set(f"host/{rank}", f"machine{rank // 2}")
    store.set("end/1", "lost another")
    store.set("end/2", "ended: ValueError: label 7")
    said = launching._describe_lost(store, Place(0, 4, 0, 2, "tcp://x:1"))
    assert said == (
        "process 2 of 4, on machine1, ended: ValueError: label 7; "
        "process 3 of 4, on machine1, does not answer: it was killed or is cut off"
    )
    assert store.get("end/0") == b"lost another"

    class Gone:
        def set(self, key, value):
            raise RuntimeError("Broken pipe")

    said = launching._describe_lost(Gone(), Place(1, 2, 1, 2, "tcp://first:1"))
    assert said.startswith("process 0 of 2, at tcp://first:1, does not answer")


def test_those_who_wait_for_others_say_so(monkeypatch, capsys):
    monkeypatch.setattr(launching, "_PATIENCE", 0.02)
    with launching._saying_that_it_waits(Place(0, 2, 0, 1, "tcp://first:1"), timeout=0.5):
        time.sleep(0.1)
    assert (
        "process 0 waits for all 2 processes to come to tcp://first:1: 0 s of at most 30 s" in capsys.readouterr().err
    )


SPAWNED = """
import multiprocessing, os, signal, sys, time
from epl_d2.processes import end_with_parent

def work():
    os.kill(os.getppid(), signal.SIGKILL)  # before this process looks who its parent is
    time.sleep(0.5)
    end_with_parent()
    print("orphan", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work).start()
    time.sleep(60)
"""


def test_a_process_that_is_an_orphan_from_the_start_ends(tmp_path):
    (tmp_path / "parent.py").write_text(SPAWNED)
    command = [sys.executable, str(tmp_path / "parent.py")]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=False)
    assert "orphan" in finished.stdout  # and the pipe was closed before the time was up


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import signal, time
from epl_d2.processes import end_with_parent
signal.signal(signal.SIGTERM, lambda *_: print("tidied up", flush=True))
end_with_parent({grace})
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("grace", [0, 1])
def test_a_process_ends_with_its_parent(grace):
    command = [sys.executable, "-c", PARENT, CHILD.format(grace=grace)]
    environment = dict(os.environ)
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    lines = [parent.stdout.readline(), parent.stdout.readline()]
    assert "ready\n" in lines
    parent.kill()
    rest = parent.stdout.read()  # ends when the child has closed it, too
    parent.wait()
    assert ("tidied up" in rest) == bool(grace)
    child = int(next(line for line in lines if line != "ready\n"))
    with pytest.raises(ProcessLookupError):
        for _ in range(50):
            os.kill(child, 0)
            time.sleep(0.1)
        os.kill(child, signal.SIGKILL)
        pytest.fail("it lives")
