"""What a cell finds of the process, where the device has a say in it."""

import os

import pytest
import torch

from runner.measure.precision import precision_modes
from runner.measure.switches import CUBLAS, Switches
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
