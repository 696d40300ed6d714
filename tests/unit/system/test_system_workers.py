import os
import signal
import time

import pytest

from gan_lightning.system.locks import lock
from gan_lightning.system.workers import GROUP, processors, shared_work


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_results_come_in_the_order_of_the_things_and_no_more_wait_than_are_asked_for(processes):
    taken = []
    things = (taken.append(number) or number for number in range(20 * GROUP))
    with shared_work(str, processes) as results:
        found = results(things)
        assert next(found) == "0"
        assert len(taken) <= 2 * max(processes, 1) * GROUP
        assert list(found) == [str(number) for number in range(1, 20 * GROUP)]


def test_the_first_error_ends_the_work():
    with shared_work(lambda number: 1 / number, 2) as results:
        found = results([1, 2] * GROUP + [0] + [1] * 20 * GROUP)
        with pytest.raises(ZeroDivisionError):
            list(found)


def test_the_work_is_done_in_other_processes_and_there_is_one_processor_at_least():
    with shared_work(lambda _: os.getpid(), 2) as results:
        assert os.getpid() not in set(results(range(3)))
    assert processors() >= 1


def test_a_killed_process_leaves_neither_workers_nor_locks_behind(tmp_path):
    told, tells = os.pipe()
    child = os.fork()
    if not child:
        held = lock(tmp_path / "lock")
        with shared_work(lambda _: os.getpid(), 2, [held]) as results:
            os.write(tells, b"1" if next(results([0])) != os.getpid() else b"0")
            time.sleep(60)
    os.close(tells)
    assert os.read(told, 1) == b"1"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(lock(tmp_path / "lock", waits=False))
    assert os.read(told, 1) == b"", "comes when the last process that holds the other end has ended"
    os.close(told)
