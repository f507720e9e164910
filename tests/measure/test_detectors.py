"""Four flags found by experiment: each is raised where its cause is there, and only there.

Where times decide, the clock counts what a call does, its steps or its page faults, so that no
machine is too busy for it. How often the flags are right by a real clock is shown by
``tests/benchmarks/detectors.py``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runner.calls import Thunk
from runner.calls.bound_operation import BoundOperation
from runner.config.schema import Limit
from runner.execute.cell_run import run_cell
from runner.measure import detectors, page_faults
from runner.measure.detectors import (
    Float32Times,
    TimedCall,
    cpu_fallback,
    denormal,
    denormal_share,
    first_touch,
)
from runner.measure.device import Device
from runner.measure.engine import measure
from runner.measure.host_clock import Block
from runner.measure.precision import allowed_products, full_precision, uses_reduced_precision
from runner.rows.rows import BenchmarkRow
from runner.tasks.task import WorkerState
from tests.support.factories import QUICK, STATE, cell, flags, ran

CPU = Device(torch.device("cpu"))
HALF = {"signature": "... m n -> ...", "tolerance": "8 * sqrt(m * n)"}
SMALLEST = torch.finfo(torch.float32).tiny
CALL_S = 1e-4  # of a call that makes no step and no fault
STEP_S = 1e-4  # of a step
FAULT_S = 1e-6  # of a page fault
OWN = {"name": "own", "signature": "m n -> m n", "differentiable": False}


def own(call: str, **fields: Any) -> dict[str, Any]:
    """An operation of this module."""
    return {**OWN, "call": f"tests.measure.test_detectors.{call}", **fields}


def shrunk(x: torch.Tensor) -> torch.Tensor:
    """Every element denormal."""
    return x * 1e-39


def rounded_square(x: torch.Tensor) -> torch.Tensor:
    """Products rounded as a switch of PyTorch's allows.

    As on hardware that has products of bfloat16.
    """
    rough = x.to(torch.bfloat16).to(x.dtype) if allowed_products(x.device) == "bf16" else x
    return rough @ x


steps: list[torch.dtype] = []


def slow_in_half(x: torch.Tensor) -> torch.Tensor:
    """What takes 64 steps in float16 and one in other dtypes."""
    steps.extend([x.dtype] * (64 if x.dtype is torch.float16 else 1))
    return x.clone()


class CountingClock:
    """A clock by which a call takes what it does.

    Seconds for each of what is counted, and a few for itself.
    """

    def __init__(self, count: Callable[[], int], each_s: float, call_s: float) -> None:
        self.count, self.each_s, self.call_s = count, each_s, call_s
        self.seconds = 0.0

    def now(self) -> float:
        """Seconds since its beginning; it is never quite the same moment."""
        self.seconds += 1e-9
        return self.seconds

    def time(self, call: Thunk, calls: int, untimed: int = 0) -> Block:
        before = self.count()
        for _ in range(calls):
            call()
        wall_s = (self.count() - before) * self.each_s + calls * self.call_s
        self.seconds += wall_s
        return Block(wall_s, wall_s, 0, 0.0)


@pytest.fixture
def counted_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have cells timed by the steps that they make."""
    monkeypatch.setattr(STATE, "float32_times", {})
    monkeypatch.setattr(
        Device, "clock", lambda self, threads: CountingClock(lambda: len(steps), STEP_S, CALL_S)
    )


def filled(x: torch.Tensor) -> torch.Tensor:
    """A fresh tensor, and nothing else."""
    return torch.ones_like(x)


@contextmanager
def products(kind: str) -> Iterator[None]:
    """Allow float32 products to be rounded on the CPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(kind)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


# denormal


def test_denormal_outputs_are_flagged() -> None:
    assert "denormal" in flags(own("shrunk"), size=64)


def test_ordinary_numbers_zeros_and_half_precision_are_not_denormal() -> None:
    assert "denormal" not in flags("exp", size=64)
    assert "denormal" not in flags("relu", size=64, fill="zeros")
    assert not denormal([torch.full((64,), 1e-6, dtype=torch.float16)], CPU)
    assert not denormal([torch.zeros(4, dtype=torch.int32), torch.empty(0)], CPU)


def test_denormals_that_the_cpu_takes_for_zero_do_no_harm() -> None:
    tensor = torch.full((64,), SMALLEST / 2)
    assert denormal([tensor], CPU)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        assert not denormal([tensor], CPU)
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_the_share_of_denormals_is_found_in_a_part_of_a_large_tensor(dtype: torch.dtype) -> None:
    part = torch.ones(1024, 512, dtype=dtype)
    part[::10] = torch.finfo(dtype).tiny / 4
    real = 2 if dtype.is_complex else 1  # imaginary parts are 0
    assert denormal_share(part) == pytest.approx(0.1 / real, rel=0.1)
    assert denormal_share(part.mT) == pytest.approx(0.1 / real, rel=0.1)
    assert denormal_share(torch.ones(1024, 512, dtype=dtype)) == 0


# reduced_precision


def test_products_of_fewer_digits_are_flagged_and_allowed_their_rounding() -> None:
    square = own("rounded_square", signature="n n -> n n", tolerance="8 * sqrt(n)")
    with products("medium"):
        # a worker begins with the switches that it finds
        (found,) = run_cell(cell(square, size=256), WorkerState()).rows
        assert isinstance(found, BenchmarkRow)
        assert "reduced_precision" in found.flags
        assert "wrong_values" not in found.flags
        assert found.allowed_relative_error is not None and found.allowed_relative_error > 1e-3
    assert "reduced_precision" not in flags(square, size=256)


def full_square(x: torch.Tensor) -> torch.Tensor:
    """The same without that rounding, whatever a switch allows, and the processor has."""
    return (x.double() @ x.double()).to(x.dtype)


def test_an_implementation_answers_for_its_own_products_and_not_for_the_references() -> None:
    named = {"full": f"{__name__}.full_square", "rounded": f"{__name__}.rounded_square"}
    for own_call, other, is_rounded in (("rounded", "full", False), ("full", "rounded", True)):
        square = own(f"{own_call}_square", signature="n n -> n n", tolerance="8 * sqrt(n)")
        square |= {"implementations": {other: named[other]}}
        with products("medium"):
            (found,) = run_cell(cell(square, size=256, impl=other), WorkerState()).rows
        assert isinstance(found, BenchmarkRow)
        assert ("reduced_precision" in found.flags) is is_rounded, other


def test_an_operation_without_products_makes_no_use_of_the_switch() -> None:
    with products("medium"):
        assert "reduced_precision" not in flags("add", size=64)
        assert "reduced_precision" not in flags("matmul", size=64, dtype="float64")


def test_nothing_is_called_where_no_switch_is_on_and_noise_is_not_taken_for_rounding() -> None:
    calls: list[int] = []

    def noisy() -> list[torch.Tensor]:
        calls.append(1)
        return [torch.rand(8)]

    assert not uses_reduced_precision(noisy, CPU.torch)
    assert not calls
    with products("medium"):
        assert not uses_reduced_precision(noisy, CPU.torch)
    assert calls


def test_the_switches_are_put_back() -> None:
    with products("medium"):
        with full_precision(CPU.torch):
            assert allowed_products(CPU.torch) is None
        assert allowed_products(CPU.torch) == "bf16"
    assert allowed_products(CPU.torch) is None


# cpu_fallback


@pytest.mark.usefixtures("counted_steps")
def test_a_dtype_without_a_fast_kernel_is_flagged() -> None:
    assert "cpu_fallback" in flags(own("slow_in_half"), size=256, dtype="float16", threads=1)


@pytest.mark.usefixtures("counted_steps")
def test_a_dtype_with_one_is_not() -> None:
    assert "cpu_fallback" not in flags(own("slow_in_half"), size=256, dtype="bfloat16", threads=1)
    assert "cpu_fallback" not in flags("transpose_copy", size=256, dtype="int16", threads=1)
    assert "cpu_fallback" not in flags(own("slow_in_half"), size=256, dtype="float64", threads=1)


def timed_call(
    clock: Any, dtype: str = "float16", output_bytes: int = 0, **limit: Any
) -> TimedCall:
    """A call of nothing, timed by this clock, so that a detector can be asked about it."""
    asked = cell(
        own("slow_in_half", dtypes=["floating", "integer", "complex"]), size=8, dtype=dtype, **limit
    )
    assert asked.dimensions is not None
    bound = BoundOperation(
        asked.operation, slow_in_half, asked.dimensions, getattr(torch, dtype), 0
    )

    def make_call(operation: BoundOperation, tensors: list[torch.Tensor]) -> Thunk:
        def call() -> torch.Tensor:
            steps.append(operation.dtype)
            return torch.empty(1)

        return call

    tensors = bound.draw()
    call = make_call(bound, tensors)
    measured = measure(call, clock, QUICK)
    return TimedCall(call, bound, tensors, make_call, clock, measured, asked, output_bytes)


class DtypeClock(CountingClock):
    """By which a call takes its dtype's seconds."""

    def __init__(self, seconds: dict[torch.dtype, float]) -> None:
        super().__init__(lambda: 0, 0.0, 0.0)
        self.by_dtype = seconds

    def time(self, call: Thunk, calls: int, untimed: int = 0) -> Block:
        call()
        self.call_s = self.by_dtype[steps[-1]]
        return super().time(call, calls)


@pytest.mark.parametrize(
    ("dtype", "times", "float32_s", "flagged"),
    [
        ("float16", 2.1, 1e-4, True),
        ("float16", 1.9, 1e-4, False),
        ("bfloat16", 2.1, 1e-4, True),
        ("int8", 2.1, 1e-4, True),  # narrower is no excuse
        ("int64", 4.1, 1e-4, True),
        ("int64", 3.9, 1e-4, False),  # twice as wide
        ("float16", 40.0, 1e-6, False),  # so short that most of it is what a call costs
        ("float64", 9.0, 1e-4, False),
        ("complex64", 9.0, 1e-4, False),
    ],
)
def test_what_counts_is_how_much_longer_than_float32_it_takes(
    dtype: str, times: float, float32_s: float, flagged: bool
) -> None:
    clock = DtypeClock({getattr(torch, dtype): times * float32_s, torch.float32: float32_s})
    assert cpu_fallback(timed_call(clock, dtype), {}) is flagged


def test_noise_is_not_taken_for_a_missing_kernel() -> None:
    float32_times: Float32Times = {}
    clock = DtypeClock({torch.float16: 1e-3, torch.float32: 1e-4})
    timed = timed_call(clock)
    disturbed = replace(timed, measured=replace(timed.measured, flags=("contended",)))
    assert not cpu_fallback(disturbed, float32_times)
    clock.by_dtype[torch.float16] = 1e-4  # once more, and it is as fast as float32
    assert not cpu_fallback(timed, float32_times)
    clock.by_dtype[torch.float16] = 1e-3
    assert cpu_fallback(timed, float32_times)


@pytest.mark.usefixtures("counted_steps")
def test_float32_is_measured_once_for_an_operation_and_size() -> None:
    for dtype in ("float16", "bfloat16", "int8"):
        steps.clear()
        ran(own("slow_in_half", dtypes=["floating", "integer"]), size=32, dtype=dtype)
        assert (torch.float32 in steps) is (dtype == "float16")
    assert len(STATE.float32_times) == 1
    ran(own("slow_in_half", dtypes=["floating", "integer"]), size=32, dtype="float32")
    assert len(STATE.float32_times) == 1
    ran(own("slow_in_half"), size=64, dtype="float16")
    assert len(STATE.float32_times) == 2


def only_integers(x: torch.Tensor) -> torch.Tensor:
    """What float32 is refused."""
    steps.append(x.dtype)
    return x << 1


@pytest.mark.usefixtures("counted_steps")
def test_an_operation_that_knows_no_float32_has_nothing_to_fall_back_from() -> None:
    assert "cpu_fallback" not in flags(
        own("only_integers", dtypes=["integer"]), size=32, dtype="int32"
    )


# first_touch


@pytest.fixture
def counted_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have cells and probes timed by the page faults that the system counts for them."""
    resource = pytest.importorskip("resource")

    def faults() -> int:
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)

    monkeypatch.setattr(
        Device, "clock", lambda self, threads: CountingClock(faults, FAULT_S, CALL_S)
    )
    monkeypatch.setattr(
        page_faults, "time", SimpleNamespace(perf_counter=lambda: faults() * FAULT_S)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("counted_faults")
def test_a_large_fresh_output_is_flagged() -> None:
    assert "first_touch" in flags(own("filled"), size=4096, threads=1, limit=Limit(time_s=60))


@pytest.mark.usefixtures("counted_faults")
def test_memory_that_is_used_again_is_not_fresh() -> None:
    assert "first_touch" not in flags(own("filled"), size=256)
    assert "first_touch" not in flags("matmul", size=256)


MILLION = 1_000_000  # bytes


@pytest.mark.parametrize(
    ("faults", "call_s", "output_bytes", "flagged"),
    [
        (1_000, 1.3e-3, 4 * MILLION, True),  # 1 ms of them
        (1_000, 3e-3, 4 * MILLION, False),
        (0, 1e-3, 4 * MILLION, False),  # all of it used again
        (1_000, 1e-4, MILLION // 10, False),  # so small that no allocator gives it back
        (
            1_000,
            1.3e-3,
            MILLION // 2,
            False,
        ),  # so few pages of it that these cannot be most of the call
    ],
)
def test_fresh_memory_counts_where_its_faults_are_most_of_a_call(
    faults: int, call_s: float, output_bytes: int, flagged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call's faults are made up, the probe's are the system's; each takes a microsecond."""
    resource = pytest.importorskip("resource")
    made_up = SimpleNamespace(faults=0, seconds=0.0, looks=0)
    # what else runs delays the call, and the fresh and the used memory of the probe, now and then
    late_s = iter([0.0, *(1.0, 0.5, 0.0), *(0.0, 0.0, 1.0), *(0.5, 0.0, 0.0), *(0.0, 0.5, 0.0)])

    def minor_faults() -> int:
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)

    def usage() -> SimpleNamespace:
        return SimpleNamespace(ru_minflt=minor_faults() + made_up.faults)

    def now() -> float:
        made_up.looks += 1
        if made_up.looks % 2 == 0:  # at the end of what is timed
            made_up.seconds += next(late_s)
        return minor_faults() * FAULT_S + made_up.seconds

    def call() -> None:
        made_up.faults += faults
        made_up.seconds += call_s

    clock = CountingClock(lambda: 0, 0.0, call_s)
    timed = replace(timed_call(clock, output_bytes=output_bytes), call=call)
    monkeypatch.setattr(page_faults, "usage_of_process", lambda: usage)
    monkeypatch.setattr(page_faults, "time", SimpleNamespace(perf_counter=now))
    assert first_touch(timed) is flagged


def test_a_detector_that_fails_raises_no_flag_and_spoils_no_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*given: Any) -> bool:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(detectors, "cpu_fallback", broken)
    assert ran("add", size=32, dtype="float16").status == "ok"
    assert "cpu_fallback: not known: out of memory" in capsys.readouterr().out


# what is looked at of outputs, and of gradients where these are timed


def nothing(x: torch.Tensor) -> torch.Tensor:
    """A sum that is right in float64 alone."""
    total = x.sum((-2, -1))
    return total if x.dtype is torch.float64 else total * 0


def with_nan(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The second of its outputs is wrong in any other dtype than float64."""
    return x + 1, x if x.dtype is torch.float64 else x * torch.nan


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_long_sum_in_half_precision_may_not_be_anything(dtype: str) -> None:
    found = ran(own("nothing", **HALF), size=256, dtype=dtype)
    assert found.max_relative_error == 1.0
    assert "wrong_values" in found.flags
    assert "wrong_values" not in flags("sum", size=256, dtype=dtype)


def test_a_nan_in_any_output_is_a_wrong_value() -> None:
    assert "wrong_values" in flags(own("with_nan", signature="m n -> m n, m n"), size=8)


@pytest.mark.parametrize(
    ("op", "moves"), [("sum", False), ("add", False), ("exp", True), ("transpose", False)]
)
def test_a_backward_pass_that_moves_no_data_is_a_view(op: str, moves: bool) -> None:
    assert ("view" in flags(op, size=16, direction="backward")) is not moves
