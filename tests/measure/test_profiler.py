"""What the profiler says beside events: of kernels of the tests' own, and of PyTorch's."""

import itertools
import json
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from runner.measure.profiler import Kernel, Profile, kernels_in, profiled, summary, trace_of


def test_kernels_and_the_gaps_between_them_are_told_apart() -> None:
    kernels = [Kernel("a", 0.0, 1.0), Kernel("b", 1.5, 2.5), Kernel("a", 3.0, 4.0)]
    kernels += [Kernel("b", 4.5, 5.5)]
    found = summary(kernels, calls=2)
    assert found.kernel_s == pytest.approx(2.0)
    assert found.gap_s == pytest.approx(3 * 0.5 * 4 / 3 / 2)
    assert found.kernels is not None
    assert json.loads(found.kernels) == [["a", 1.0, 1.0], ["b", 1.0, 1.0]]


def test_kernels_at_the_same_time_count_once() -> None:
    found = summary([Kernel("a", 0.0, 2.0), Kernel("b", 1.0, 3.0), Kernel("c", 1.5, 2.0)], 1)
    assert (found.kernel_s, found.gap_s) == (pytest.approx(3.0), 0.0)
    assert summary([], 1) == Profile()


@pytest.mark.parametrize(
    ("median_s", "differs"), [(0.94, True), (0.96, False), (1.2, False), (1.27, True)]
)
def test_a_time_differs_that_neither_kernels_nor_gaps_explain(
    median_s: float, differs: bool
) -> None:
    assert Profile(1.0, 0.2, "[]").differs(median_s) is differs
    assert not Profile().differs(median_s)


def traced(call: Callable[[Callable[[str, float], None]], None]) -> Profile:
    """What is found of a call that takes some 4 ms, on a device that runs what it is told."""
    moment = [0.0]

    def kernel(name: str, seconds: float) -> None:
        ran.append(Kernel(name, moment[0], moment[0] + seconds))
        moment[0] += seconds

    ran: list[Kernel] = []

    def trace(run):  # type: ignore[no-untyped-def]
        ran.clear()
        run()
        return list(ran)

    work = partial(kernel, "work", 1.0)
    return profiled(partial(call, kernel), 0.004, trace, lambda seconds: work(), lambda: None)


def test_what_kept_the_device_busy_is_not_taken_for_the_call() -> None:
    made = itertools.count()

    def call(kernel: Callable[[str, float], None]) -> None:
        if not next(made):
            kernel("memset of the first call", 0.5)
        kernel("x", 0.001)
        kernel("y", 0.003)

    found = traced(call)
    assert (found.kernel_s, found.gap_s) == (pytest.approx(0.004), pytest.approx(0.0, abs=1e-9))
    names = [name for name, *_ in json.loads(found.kernels or "")]
    assert names == ["x", "y"]


@pytest.mark.parametrize("fewer", [0, 1])
def test_kernels_that_cannot_be_the_calls_alone_are_not_taken_for_them(fewer: int) -> None:
    made = itertools.count()

    def call(kernel: Callable[[str, float], None]) -> None:
        for _ in range(2 if next(made) < 2 else fewer):
            kernel("x", 0.001)

    assert traced(call) == Profile()


def test_a_profile_of_pytorchs_is_read() -> None:
    a = torch.ones(64, 64)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        torch.mm(a, a)
    kernels = kernels_in(profiler.events() or (), DeviceType.CPU)
    (product,) = [kernel for kernel in kernels if kernel.name == "aten::mm"]
    assert 0 < product.end_s - product.start_s < 60


def test_a_device_that_the_profiler_does_not_know_is_said_to_be() -> None:
    with pytest.raises(NotImplementedError, match="does not see the kernels of nowhere"):
        trace_of("nowhere")
