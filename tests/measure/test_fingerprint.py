"""What ran for a call is told by further calls of it."""

import json

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
