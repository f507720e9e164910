"""The host's clock, and what the system says of threads that waited for a core."""

import os
import subprocess
import sys
import threading
import time

import pytest

from runner.measure.host_clock import TASKS, HostClock, _WaitingTime, waiting_time


def test_host_clock_runs_the_call_as_often_as_asked_and_sees_time_pass():
    ran = []
    clock = HostClock(single_threaded=True)
    before = clock.now()
    block = clock.time(lambda: ran.append(sum(range(1_000))), 7)
    assert len(ran) == 7
    assert 0 < block.wall_s <= clock.now() - before
    assert block.cpu_s is not None and block.cpu_s >= 0
    assert block.preemptions is None or block.preemptions >= 0


def test_host_clock_says_nothing_of_cpu_time_where_several_threads_work():
    assert HostClock(single_threaded=False).time(lambda: None, 1).cpu_s is None


def test_waiting_is_that_of_all_threads_and_of_those_that_have_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("runner.measure.host_clock.TASKS", tmp_path)

    def thread(number, waited_ns):
        (tmp_path / number).mkdir(exist_ok=True)
        (tmp_path / number / "schedstat").write_text(
            f"900000000 {waited_ns} 77\n"
        )  # on a core, waiting, slices

    thread("11", 1_000_000_000)
    waited = waiting_time()
    assert waited is not None
    assert waited() == pytest.approx(1.0)
    thread("12", 250_000_000)
    thread("11", 1_500_000_000)
    assert waited() == pytest.approx(1.75)
    (tmp_path / "12" / "schedstat").unlink()
    (tmp_path / "12").rmdir()
    assert waited() == pytest.approx(1.75)
    thread("11", 3_000_000_000)
    assert waited() == pytest.approx(3.25)


def test_threads_are_sought_where_some_have_begun_or_ended_and_not_otherwise(monkeypatch):
    if not TASKS.is_dir() or os.stat(TASKS).st_nlink != len(os.listdir(TASKS)) + 2:
        pytest.skip("this platform does not say how many threads there are")
    waited = _WaitingTime()
    list_all, sought = os.listdir, []
    monkeypatch.setattr(os, "listdir", lambda path: sought.append(path) or list_all(path))

    def is_right():
        waited()
        return waited._files.keys() == set(list_all(TASKS))

    def begun():
        ends = threading.Event()
        thread = threading.Thread(target=ends.wait)
        thread.start()
        return ends, thread

    def end(ends, thread):
        ends.set()
        thread.join()
        deadline = time.monotonic() + 60  # the system's own end of it comes a moment later
        while str(thread.native_id) in list_all(TASKS) and time.monotonic() < deadline:
            time.sleep(0.001)

    assert is_right() and sought == []
    first = begun()
    assert is_right() and len(sought) == 1
    assert is_right() and len(sought) == 1
    end(*first)
    second = begun()  # as many as before
    waited()
    assert is_right() and len(sought) == 2
    end(*second)
    assert is_right() and len(sought) == 3


def test_waiting_is_not_known_where_the_platform_keeps_no_account_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("runner.measure.host_clock.TASKS", tmp_path / "nothing")
    assert waiting_time() is None
    monkeypatch.setattr("runner.measure.host_clock.TASKS", tmp_path)
    (tmp_path / "11").mkdir()
    (tmp_path / "11" / "schedstat").write_text("")
    assert waiting_time() is None


@pytest.mark.slow
def test_a_busy_core_is_noticed_for_real():
    """Two that want one core: one of them waits, however fast it is.

    The other cores are left to the other tests.
    """
    waited = waiting_time()
    if waited is None or not hasattr(os, "sched_setaffinity"):
        pytest.skip("this platform does not say how long threads wait for a core")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # of this thread, and of what it starts
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before, end = waited(), time.monotonic() + 60
        while waited() - before <= 0.1:
            assert time.monotonic() < end
    finally:
        os.sched_setaffinity(0, cores)
        busy.kill()
        busy.wait()
