"""Trials that are forked: as fresh processes, from a parent that imports nothing here."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from gan_lightning.sweeps import forked_worker, warm_parent
from gan_lightning.sweeps.forked_worker import FRESH, WarmParent, end_warm_parents
from gan_lightning.sweeps.spec import Sweep
from gan_lightning.sweeps.trials import trial_lock
from gan_lightning.sweeps.worker import Worker, end_group, start_worker, stop_workers, trial_environment
from gan_lightning.system.locks import is_locked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trials are forked on Linux alone")

PARENT = """
import socket, sys
from gan_lightning.sweeps import warm_parent
warm_parent.import_all = lambda: None
warm_parent.main(socket.socket(fileno=int(sys.argv.pop())))
exec(sys.argv[1])
"""

ABOUT = """
import json, os, random, signal, sys, threading
print(json.dumps({
    "arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ), "first": sys.path[0],
    "pid": os.getpid(), "session": os.getsid(0), "group": os.getpgid(0), "input": sys.stdin.read(),
    "handlers": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    "threads": threading.active_count(), "number": random.random(), "wakes": signal.set_wakeup_fd(-1),
    "descriptors": len(os.listdir("/proc/self/fd")),
}))
print("an error", file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _quick_parents(monkeypatch):
    """Let parents import nothing and run the program that is their first argument, and end them."""
    monkeypatch.setattr(forked_worker, "PARENT", ["-c", PARENT])
    monkeypatch.setattr(forked_worker, "_unfit", set())
    yield
    end_warm_parents()
    assert forked_worker._parents == {}


@contextmanager
def started(folder: Path, program: str, *arguments: str, **environment: str):
    """Start a worker that runs a program; end it."""
    folder.mkdir(parents=True, exist_ok=True)
    with trial_lock(folder) as lock:
        command = [sys.executable, "-m", "gan_lightning", program, *arguments]
        worker = start_worker(command, os.environ | environment, folder / "output.log", lock)
    try:
        yield worker
    finally:
        end_group(worker.pid)
        worker.wait()


def said(folder: Path) -> str:
    return (folder / "output.log").read_text()


def wait_for(condition, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    return not forked_worker._is_alive(pid)


def test_a_forked_trial_is_like_a_fresh_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forked").mkdir()
    (tmp_path / "forked/output.log").write_text("before\n")
    with started(tmp_path / "forked", ABOUT, "--a=1", "b", GAN_LIGHTNING_SWEEP_POINT='{"x": 1}', OWN="1") as worker:
        assert isinstance(worker, forked_worker.ForkedWorker)
        assert isinstance(worker, Worker)
        assert worker.wait() == worker.poll() == 0
    assert said(tmp_path / "forked").startswith("before\n"), "output is appended"
    assert said(tmp_path / "forked").endswith("an error\n")
    forked = json.loads(said(tmp_path / "forked").splitlines()[1])
    fresh_output = subprocess.run(
        [sys.executable, "-c", ABOUT, "", "--a=1", "b"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env=os.environ | {"GAN_LIGHTNING_SWEEP_POINT": '{"x": 1}', "OWN": "1"}, start_new_session=True, check=True,
    ).stdout  # fmt: skip
    fresh = json.loads(fresh_output)
    assert forked["pid"] == forked["session"] == forked["group"] == worker.pid
    assert forked["descriptors"] == fresh["descriptors"] + 1, "the lock alone"
    for same in ("arguments", "folder", "environment", "input", "handlers", "threads", "wakes"):
        assert forked[same] == fresh[same], same
    assert forked["first"] == str(tmp_path), "as `python -m` has it"


def test_two_trials_have_one_parent_environments_of_their_own_and_other_numbers(tmp_path):
    found = []
    for point in ("1", "2"):
        with started(tmp_path / point, ABOUT, GAN_LIGHTNING_SWEEP_POINT=point) as worker:
            assert worker.wait() == 0
        found.append(json.loads(said(tmp_path / point).splitlines()[0]))
    assert len(forked_worker._parents) == 1
    assert [each["environment"]["GAN_LIGHTNING_SWEEP_POINT"] for each in found] == ["1", "2"]
    assert found[0]["number"] != found[1]["number"]
    with started(tmp_path / "3", "pass", OMP_NUM_THREADS="7") as worker:
        assert worker.wait() == 0
    assert len(forked_worker._parents) == 2, "some variables are read at the start of a process alone"


def test_all_trials_of_a_sweep_have_one_parent(tmp_path):
    sweep = Sweep(
        path=Path("s.yaml"), name="s", method="grid", parameters={"x": {"values": [1, 2]}}, command=(), run_cap=None,
        metric={"name": "score"}, early_terminate=None, project="gans",
    )  # fmt: skip
    for point in sweep.grid():
        with started(tmp_path / point.id, "pass", **trial_environment(sweep, point, tmp_path / point.id, 2)) as worker:
            assert worker.wait() == 0
    assert len(forked_worker._parents) == 1


@pytest.mark.parametrize(
    ("program", "status"),
    [("pass", 0), ("sys.exit(3)", 3), ("sys.exit('why')", 1), ("1 / 0", 1), ("sys.exit(143)", 143),
     ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
     ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
     ("import atexit; atexit.register(print, 'at the end')", 0)],
)  # fmt: skip
def test_every_end_is_seen(tmp_path, program, status):
    with started(tmp_path, program) as worker:
        assert worker.wait() == worker.poll() == status
    ends = {"sys.exit('why')": "why\n", "import atexit; atexit.register(print, 'at the end')": "at the end\n"}
    assert ends.get(program, "") in said(tmp_path)
    assert "ZeroDivisionError" in said(tmp_path) or program != "1 / 0"


def test_a_trial_holds_its_lock_as_long_as_it_lives_and_nobody_else_does(tmp_path):
    with started(tmp_path / "a", "import time; time.sleep(60)") as long:
        with started(tmp_path / "b", "import time; time.sleep(60)") as other:
            assert (long.poll(), other.poll()) == (None, None)
            assert is_locked(tmp_path / "a/.lock")
            stop_workers([long])
            assert long.poll() == -signal.SIGTERM
            assert not is_locked(tmp_path / "a/.lock"), "neither its parent nor the next trial holds it"
            assert other.poll() is None
        assert not is_locked(tmp_path / "b/.lock")


def test_a_parent_that_is_killed_leaves_its_trials_and_another_one_follows(tmp_path):
    with started(tmp_path / "a", "import time; print('begun', flush=True); time.sleep(60)") as orphan:
        (parent,) = forked_worker._parents.values()
        wait_for(lambda: "begun" in said(tmp_path / "a"))  # before, its parent may not have let it go
        parent.process.kill()
        parent.process.wait()
        assert orphan.poll() is None
        with started(tmp_path / "b", "sys.exit(4)") as worker:
            assert worker.wait() == 4
        assert parent not in forked_worker._parents.values()
        os.killpg(orphan.pid, signal.SIGINT)
        assert orphan.wait() == orphan.poll() == -signal.SIGKILL, "how it ended is not known"


def test_nothing_is_left_behind_when_the_runner_is_killed(tmp_path):
    program = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1]); import test_sweeps_forked_worker as t; "
        "from pathlib import Path; t.forked_worker.PARENT = ['-c', t.PARENT]; here = Path(sys.argv[2])\n"
        "with t.started(here, 'import time; time.sleep(60)') as worker:\n"
        "    (parent,) = t.forked_worker._parents.values()\n"
        "    (here / 'pids.part').write_text(f'{worker.pid} {parent.process.pid}')\n"
        "    (here / 'pids.part').rename(here / 'pids'); time.sleep(60)"
    )
    runner = subprocess.Popen([sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)])
    try:
        wait_for((tmp_path / "pids").exists, 120)
        trial, parent = map(int, (tmp_path / "pids").read_text().split())
    finally:
        runner.kill()
        runner.wait()
    wait_for(lambda: is_gone(parent))
    assert not is_gone(trial), "as a fresh process, a trial outlives its runner and holds its lock"
    assert is_locked(tmp_path / ".lock")
    os.killpg(trial, signal.SIGKILL)
    wait_for(lambda: is_gone(trial))


@pytest.mark.parametrize("parent", ["import sys; sys.exit(3)", "this is no program"])
def test_where_there_is_no_parent_the_process_is_fresh(tmp_path, monkeypatch, parent):
    monkeypatch.setattr(forked_worker, "PARENT", ["-c", parent])
    with started(tmp_path, "--version") as worker:
        assert isinstance(worker, subprocess.Popen)
        assert worker.wait() == 0
    assert said(tmp_path).startswith("gan-lightning ")
    monkeypatch.setattr(forked_worker, "PARENT", ["-c", PARENT])
    with started(tmp_path, "--version") as worker:
        assert isinstance(worker, subprocess.Popen), "no other trial waits for such a parent"


def test_a_user_can_have_fresh_processes(tmp_path, monkeypatch):
    monkeypatch.setenv(FRESH, "1")
    with started(tmp_path, "--version") as worker:
        assert isinstance(worker, subprocess.Popen)


def test_a_parent_that_has_started_cuda_is_not_forked(monkeypatch):
    torch = ModuleType("torch")
    torch.cuda = SimpleNamespace(is_initialized=lambda: True)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(warm_parent, "import_all", lambda: None)
    with pytest.raises(SystemExit) as ended:
        warm_parent.main(socket.socket())
    assert ended.value.code == warm_parent.UNFIT


def test_a_trial_that_could_not_use_cuda_becomes_a_fresh_process(tmp_path, monkeypatch):
    out_of_reach = PARENT.replace("= lambda: None", "= lambda: None; warm_parent.cuda_is_out_of_reach = lambda: True")
    monkeypatch.setattr(forked_worker, "PARENT", ["-c", out_of_reach])
    with started(tmp_path, "--version") as worker:
        assert isinstance(worker, forked_worker.ForkedWorker)
        assert worker.wait() == 0
    assert said(tmp_path).startswith("gan-lightning ")


def test_a_request_that_is_too_long_is_left_to_a_fresh_process(tmp_path):
    with started(tmp_path, "--version", LONG="x" * 100_000, LONGER="y" * 120_000, LONGEST="z" * 100_000) as worker:
        assert worker.wait() == 0
    assert isinstance(worker, subprocess.Popen)


def test_a_parent_ends_when_it_is_closed():
    parent = WarmParent(os.environ)
    parent.close()
    assert parent.process.returncode == 0


@pytest.fixture
def played():
    """Return a parent without a process, and the other end of its channel; it says what the test has it say."""
    parent = WarmParent.__new__(WarmParent)
    parent._asking, parent._running, parent._begun = threading.Lock(), {}, []
    parent.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with parent.channel, theirs:
        yield parent, theirs


def say(channel: socket.socket, **answer: int) -> None:
    channel.sendall(json.dumps(answer).encode())


def test_a_trial_whose_id_had_another_trial_before_has_a_status_of_its_own(played):
    parent, theirs = played
    workers = []
    for status in (-9, 3):
        say(theirs, pid=1 << 23)  # above all ids of the system
        workers.append(parent.fork([], {}, 1, 2))
        assert workers[-1].poll() is None
        say(theirs, pid=1 << 23, status=status)
        if status == 3:
            assert workers[-1].wait() == 3
    assert [worker.poll() for worker in workers] == [-9, 3]
    assert parent.is_idle


SLOW_PARENT = PARENT.replace("= lambda: None", "= lambda: __import__('time').sleep(0.4)")


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_start_that_is_interrupted_leaves_no_trial(tmp_path, monkeypatch, has_begun):
    monkeypatch.setattr(forked_worker, "PARENT", ["-c", PARENT if has_begun else SLOW_PARENT])
    hear, heard = WarmParent._hear, []

    def interrupted(parent, *, waits):
        if not heard and has_begun:
            hear(parent, waits=waits)
        heard.append(None)
        if len(heard) == 1:
            raise KeyboardInterrupt
        return hear(parent, waits=waits)

    monkeypatch.setattr(WarmParent, "_hear", interrupted)
    with pytest.raises(KeyboardInterrupt), started(tmp_path, "import time; time.sleep(60)"):
        pass
    wait_for(lambda: not is_locked(tmp_path / ".lock"))
    end_warm_parents()
    assert not forked_worker._parents


def test_a_parent_whose_runner_has_gone_lets_no_trial_begin(tmp_path, monkeypatch):
    monkeypatch.setattr(forked_worker, "PARENT", ["-c", SLOW_PARENT])
    parent = WarmParent(os.environ)
    with (tmp_path / "output").open("wb") as output:
        request = {"arguments": ["print('it began')"], "environment": {}, "folder": str(tmp_path)}
        socket.send_fds(parent.channel, [json.dumps(request).encode()], [output.fileno(), output.fileno()])
    parent.close()
    wait_for(lambda: not is_open(tmp_path / "output"))
    assert (tmp_path / "output").read_text() == ""


def is_open(file: Path) -> bool:
    """Return whether any process has a file open."""
    found = []
    for each in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            found.append(each.samefile(file))
    return any(found)
