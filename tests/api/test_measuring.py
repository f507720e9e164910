"""Functions of tensors are timed, compared and checked in this very process."""

import os
import subprocess
import sys
import time as clock
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import opsweep
from tests.conftest import ROOT

X = torch.linspace(0.1, 2.0, 64)


def once(x: Tensor) -> Tensor:
    return x.sin()


def many_times(x: Tensor) -> Tensor:
    for _ in range(40):
        result = x.sin()
    return result


def test_a_time_is_that_of_calls_on_copies_and_says_so_in_a_line() -> None:
    kept = X.clone()
    found = opsweep.time(lambda x: x.add_(1.0), X, max_time_s=1.0)
    assert torch.equal(X, kept)
    assert 0 < found.min_s <= found.median_s
    # an interval, or, where the machine is restless, a flag or too few samples, which it says
    if found.low_s is None or found.high_s is None:
        assert found.flags or found.samples < 6
        assert ", ".join(found.flags) in repr(found)
    else:
        assert found.low_s <= found.median_s <= found.high_s
    assert found.samples >= 1 and found.device.startswith("cpu")
    assert repr(found).startswith("<lambda>: ") and f"{found.samples} samples" in repr(found)


def test_a_function_without_tensors_and_a_module_are_timed_too() -> None:
    slept = opsweep.time(lambda: clock.sleep(0.002), max_time_s=0.05)
    assert slept.median_s >= 0.002
    assert opsweep.time(nn.Linear(4, 4), torch.ones(2, 4), max_time_s=0.02).name == "Linear"


def test_torchs_switches_stay_as_the_caller_has_them() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.no_grad():
            opsweep.compare(once, once, X, max_time_s=0.02)
            assert not torch.is_grad_enabled()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_work_done_forty_times_is_slower_and_the_other_way_round_faster() -> None:
    """On a busy machine a verdict may be withheld; the ratio and its direction are there."""
    slower = opsweep.compare(many_times, once, X, max_time_s=1.0)
    assert slower.verdict in ("slower", "unclear")
    assert not slower.not_slower_than(0.05)
    assert slower.speedup < 0.5
    assert slower.same_values(0.0)
    assert f"many_times against once: {slower.verdict}, speed-up 0.0" in repr(slower)
    faster = opsweep.compare(once, many_times, X, max_time_s=1.0)
    assert faster.verdict in ("faster", "unclear") and faster.speedup > 2


def test_not_slower_by_a_limit_is_at_most_so_much_longer() -> None:
    time = opsweep.Time("f", 1.0, None, None, 1.0, 1, 1, "cpu", "precision", ())
    of = partial(opsweep.Comparison, time, time, high=1.0, verdict="slower", margin=0.05)
    tenfold = of(0.1, low=0.1, visits=9, max_relative_error=None)
    assert not tenfold.not_slower_than(1.0) and tenfold.not_slower_than(9.5)
    slightly = of(0.951, low=0.951, visits=9, max_relative_error=None)
    assert not slightly.not_slower_than(0.05) and slightly.not_slower_than(0.06)


MOVED = """
import tests.support.simulated_device, torch, opsweep
x = torch.ones(1000, 1000)
print(opsweep.time(lambda t: t.to("sim"), x, max_time_s=0.05).median_s)
found = opsweep.compare(lambda t: t.to("sim"), lambda t: t.to("sim").neg(), x, max_time_s=0.3)
print(found.old.median_s)
print(opsweep.time(lambda t: t.neg(), x.to("sim"), max_time_s=0.05).median_s)
"""


@pytest.mark.slow
def test_inputs_stay_where_the_caller_has_put_them() -> None:
    """A transfer of 4 MB takes 1 ms and 8 ms more at 500 MB/s, negating it there 0.4 ms."""
    command = [sys.executable, "-c", MOVED]
    known = {**os.environ, "SIM_CLOCK": "scripted"}
    said = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True, check=True)
    moved_s, both_s, alone_s = map(float, said.stdout.split())
    assert moved_s > 0.0089 and both_s > 0.0089 > alone_s


def test_results_that_differ_are_measured_against_the_old_ones() -> None:
    doubled = opsweep.compare(lambda x: 2.2 * x, lambda x: 2.0 * x, X, max_time_s=0.02)
    assert doubled.max_relative_error == pytest.approx(0.1)
    assert doubled.same_values(0.11) and not doubled.same_values(0.09)
    other = opsweep.compare(lambda x: x[:3], lambda x: x, X, max_time_s=0.02)
    assert other.max_relative_error is None and not other.same_values(1.0)
    assert other.reason == "the results have the shapes [(3,)] and [(64,)]"


class Wrong(torch.autograd.Function):
    """A sine whose gradient has the wrong sign."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return -gradient * x.cos()


def wrong(x: Tensor) -> Tensor:
    result: Tensor = Wrong.apply(x)
    return result


@pytest.mark.slow
def test_gradients_pass_or_fail_with_a_file_that_shows_it() -> None:
    right = opsweep.check_gradients(once, X[:5])
    assert right.ok and repr(right) == f"once: pass, {len(right.checks)} checks"
    assert {"finite_differences", "forward_mode"} <= set(right.frame()["oracle"])
    failed = opsweep.check_gradients(wrong, X[:5])
    assert failed.verdict == "fail" and not failed.ok and failed.reason
    assert f"{__name__}.wrong(x0)" in failed.script
    assert opsweep.check_gradients(Wrong.apply, X[:5]).script == ""  # nobody can import it


@pytest.mark.slow
def test_gradients_are_taken_of_what_needs_one_and_of_a_modules_parameters() -> None:
    a, b = X[:4].clone().requires_grad_(), X[4:8].clone()
    of_one = opsweep.check_gradients(torch.mul, a, b)
    arguments = set(of_one.frame()["argument"].dropna())
    assert "x0" in arguments and "x1" not in arguments
    none = opsweep.check_gradients(torch.neg, torch.arange(3))
    assert (none.verdict, none.reason) == ("unsupported", "no input has a gradient")
    of_module = opsweep.check_gradients(nn.Linear(3, 2), torch.ones(2, 3))
    assert {"x0", "weight", "bias"} <= set(of_module.frame()["argument"].dropna())


def test_what_cannot_be_measured_is_said_in_a_line() -> None:
    with pytest.raises(TypeError, match=r"^a Tensor cannot be called; give a function, and then"):
        opsweep.time(X)
    with pytest.raises(TypeError, match=r"^argument 2 is a int, not a strided tensor; have the"):
        opsweep.time(torch.add, X, 1)
    with pytest.raises(TypeError, match=r"^argument 1 is a sparse or nested tensor, not a"):
        opsweep.time(once, X.to_sparse())
    with pytest.raises(ValueError, match=r"^max_time_s=0: give a positive number of seconds"):
        opsweep.time(once, X, max_time_s=0)
    with pytest.raises(ValueError, match=r"^a call of <lambda> takes 0\.0\d+ s; give max_time_s="):
        opsweep.compare(lambda: clock.sleep(0.03), lambda: None, max_time_s=0.01)
    with pytest.raises(AttributeError, match="no attribute 'timme'"):
        opsweep.timme  # noqa: B018


def in_a_process(code: str, folder: Path) -> str:
    """What lines of Python print or raise, where ``opsweep`` is found as it is installed."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_importing_costs_nothing_and_another_package_called_runner_is_named(
    tmp_path: Path,
) -> None:
    code = "import opsweep, sys; print({'torch', 'pandas', 'runner'} & set(sys.modules))"
    assert in_a_process(code, ROOT) == "set()\n"
    (tmp_path / "runner.py").write_text("")
    said = in_a_process("import opsweep; opsweep.time(int)", tmp_path)
    hides = f"ImportError: {tmp_path / 'runner.py'} hides opsweep's own package runner"
    assert hides in said
