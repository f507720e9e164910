"""What ran for a call is told by further calls of it."""

import json
import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from runner.measure.fingerprint import fingerprint_of
from tests.support.factories import ran


def test_each_kernel_is_counted_under_the_name_that_pytorch_gives_it() -> None:
    x = torch.ones(4, 4)
    said = fingerprint_of(lambda: (x @ x + x).sum() + (x @ x).sum(), on_host=False)
    assert json.loads(said["aten_calls"]) == {"mm": 2, "add.Tensor": 2, "sum": 2}
    assert said["page_faults"] is None


def test_pages_that_are_new_at_each_call_are_counted() -> None:
    pytest.importorskip("resource", reason="the platform does not count pages")
    import mmap

    def touches() -> None:
        with mmap.mmap(-1, 64 * mmap.PAGESIZE) as pages:
            for start in range(0, len(pages), mmap.PAGESIZE):
                pages[start] = 1

    faults = fingerprint_of(touches, on_host=True)["page_faults"]
    assert faults is not None and 64 <= faults < 128


def test_what_cannot_be_watched_is_blank() -> None:
    calls = []

    def once_in_two(x: Tensor) -> Tensor:
        calls.append(x)
        if len(calls) == 1:
            raise RuntimeError("not under a mode")
        return x

    said = fingerprint_of(lambda: once_in_two(torch.ones(2)), on_host=True)
    assert said["aten_calls"] is None and said["page_faults"] is not None


def test_a_row_says_what_both_of_its_passes_ask_for() -> None:
    row = ran("softmax", size=8, direction="both")
    assert json.loads(row.aten_calls or "")["_softmax"] == 1
    assert "_softmax_backward_data" in json.loads(row.aten_calls or "")
    assert row.page_faults is not None


CONVOLVES = """
import os, sys, torch
from runner.measure.fingerprint import fingerprint_of
x, w = torch.ones(32, 16, 32, 32), torch.ones(16, 16, 3, 3)
def call():
    if "CLOSES" in os.environ:
        sys.stdout.close()
    else:
        print("from the function")
    torch.conv2d(x, w)
fingerprint_of(call, on_host=True)
print(fingerprint_of(call, on_host=True)["aten_calls"], file=sys.stderr)
"""


@pytest.mark.skipif(os.name != "posix", reason="oneDNN's lines cannot be held back")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="there is no oneDNN")
def test_the_primitive_that_onednn_chose_is_counted_and_prints_stay_where_they_were(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def said(**env: str) -> tuple[dict[str, int], list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", CONVOLVES],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return json.loads(done.stderr.splitlines()[-1]), done.stdout.splitlines()

    x, w = torch.ones(32, 16, 32, 32), torch.ones(16, 16, 3, 3)

    def call() -> None:
        print("from the function")
        torch.conv2d(x, w)

    counted = json.loads(fingerprint_of(call, on_host=True)["aten_calls"])
    assert counted["convolution"] == 1
    (primitive,) = (name for name in counted if name.startswith("onednn convolution "))
    assert counted[primitive] == 1
    # once more for the page faults
    assert capfd.readouterr().out.splitlines() == ["from the function"] * 2

    # another set of instructions is another primitive, which is what a comparison then names; and
    # what a function does to the stream is its own affair
    oldest, _ = said(ONEDNN_MAX_CPU_ISA="SSE41", CLOSES="1")
    assert any(name.startswith("onednn convolution ") for name in oldest)
    if platform.machine() in ("x86_64", "AMD64"):
        assert primitive not in oldest

    # who asked for those lines gets them
    here, printed = said(ONEDNN_VERBOSE="1")
    assert not any(name.startswith("onednn ") for name in here)
    assert any(line.startswith("onednn_verbose,") for line in printed)
