"""What a cell finds of the process, where the device has a say in it."""

import builtins
import os
import subprocess
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from runner.cells.cell import CUBLAS
from runner.measure.precision import precision_modes
from runner.measure.switches import Switches
from runner.rows.rows import FUNCTIONS
from tests.support.factories import cell

CPU = torch.device("cpu")


def test_a_deterministic_cell_has_what_cuda_asks_of_the_environment_and_no_other_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, value = CUBLAS
    monkeypatch.delenv(name, raising=False)
    switches = Switches()
    switches.enter(cell(deterministic=True), CPU)
    assert os.environ[name] == value
    switches.enter(cell(), CPU)
    assert name not in os.environ
    monkeypatch.setenv(name, ":16:8")  # the user's own stays
    switches.enter(cell(deterministic=True), CPU)
    assert os.environ[name] == ":16:8"
    assert switches.leave() == []
    assert os.environ[name] == ":16:8"


class _Passing(TorchDispatchMode):
    """Changes nothing, and makes each call take far longer."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_what_is_entered_for_good_needs_another_process() -> None:
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
    for name, entered in (("dispatch_modes", _Passing()), ("saved_tensors_hooks", hooks)):
        switches = Switches()
        switches.enter(cell(), CPU)
        with entered:
            assert switches.leave() == [name]
        assert switches.is_spoiled


def test_what_later_calls_would_find_is_put_back() -> None:
    switches = Switches()
    switches.enter(cell(), CPU)
    before = torch.get_autocast_dtype("cpu"), torch.backends.opt_einsum.enabled
    torch.set_autocast_dtype("cpu", torch.float16)
    torch.backends.opt_einsum.enabled = False
    changed = ["autocast_dtype", *(["opt_einsum.enabled"] if before[1] else [])]
    assert sorted(switches.leave()) == changed and not switches.is_spoiled
    assert (torch.get_autocast_dtype("cpu"), torch.backends.opt_einsum.enabled) == before


def test_switches_that_were_set_in_two_ways_are_still_described() -> None:
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("before PyTorch 2.9 there is one way")
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert precision_modes()["cuda_matmul_allow_tf32"] == "unreadable"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert precision_modes()["cuda_matmul_allow_tf32"] is False


class _LikeAll:
    """Takes itself for equal to anything."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __call__(self, *given: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("home", "name"),
    [(torch, "add"), (torch.Tensor, "backward"), (builtins, "all"), (builtins, "map")],
)
def test_what_everything_calls_is_put_back_whatever_its_replacement_says_it_is(
    home: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "600"]) as child:  # of which switches look for others
        switches, before = Switches(of_worker=True), vars(home)[name]
        switches.enter(cell(), CPU)
        with monkeypatch.context() as patch:
            patch.setattr(home, name, _LikeAll())
            assert FUNCTIONS in switches.leave()
            assert vars(home)[name] is before
        child.kill()
    assert switches.is_spoiled
