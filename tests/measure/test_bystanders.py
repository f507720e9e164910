"""What stays busy after a call is seen, however little of a core it gets."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.support.marks import slow

STARVED = """
import os, subprocess, threading
from runner.measure.bystanders import Bystanders

def spin():
    while True:
        pass

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
bystanders = Bystanders()
if BUSY:
    rivals = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(12)]
threading.Thread(target=spin if BUSY else threading.Event().wait, daemon=True).start()
print(*bystanders.end_busy(), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of threads")
@pytest.mark.parametrize(("busy", "seen"), [slow(True, "busy_threads busy_children"), (False, "")])
def test_a_thread_that_waits_for_a_core_is_busy_too(busy: bool, seen: str) -> None:
    script = STARVED.replace("BUSY", str(busy))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == seen


SPINNING_FOR_A_WHILE = """
import os, subprocess, threading, time
from runner.measure.bystanders import Bystanders

def spin_for_a_while():
    while time.thread_time() < 0.01:
        pass
    threading.Event().wait()

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
rivals = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(12)]
bystanders = Bystanders()
threading.Thread(target=spin_for_a_while, daemon=True).start()
print(*[kind for kind in bystanders.end_busy() if kind == "busy_threads"], flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of threads")
def test_a_thread_that_spins_for_some_milliseconds_is_not_busy_however_long_it_waits() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPINNING_FOR_A_WHILE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
