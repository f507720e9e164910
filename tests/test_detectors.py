"""Four flags found by experiment: each is raised where its cause is there, and only there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from runner.config.schema import Limit
from runner.measure import detectors
from runner.measure.detectors import denormal, denormal_share
from runner.measure.device import Device
from runner.measure.precision import allowed_products, full_precision, uses_reduced_precision
from tests.cells import flags, row

CPU = Device(torch.device("cpu"))
HALF = {"signature": "... m n -> ...", "tolerance": "8 * sqrt(m * n)"}
SMALLEST = torch.finfo(torch.float32).tiny
TRIES = 4  # on a machine so busy that times say nothing, fresh memory may not be seen to dominate
OWN = {"name": "own", "signature": "m n -> m n", "differentiable": False}


def own(call: str, **fields: Any) -> dict[str, Any]:
    """An operation of this module."""
    return {**OWN, "call": f"tests.test_detectors.{call}", **fields}


def shrunk(x: torch.Tensor) -> torch.Tensor:
    """Every element denormal."""
    return x * 1e-39


def rounded_square(x: torch.Tensor) -> torch.Tensor:
    """Products rounded as a switch of PyTorch's allows, as on hardware that has products of bfloat16."""
    rough = x.to(torch.bfloat16).to(x.dtype) if allowed_products(x.device) == "bf16" else x
    return rough @ x


def slow_in_half(x: torch.Tensor) -> torch.Tensor:
    """What takes 64 steps in float16 and one in other dtypes."""
    for _ in range(63 if x.dtype is torch.float16 else 0):
        x.clone()
    return x.clone()


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
        found = row(square, size=256)
        assert "reduced_precision" in found.flags
        assert "wrong_values" not in found.flags
        assert found.allowed_relative_error is not None and found.allowed_relative_error > 1e-3
    assert "reduced_precision" not in flags(square, size=256)


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


def test_a_dtype_without_a_fast_kernel_is_flagged() -> None:
    slow = own("slow_in_half")
    assert any("cpu_fallback" in flags(slow, size=256, dtype="float16", threads=1) for _ in range(TRIES))


def test_a_dtype_with_one_is_not() -> None:
    assert "cpu_fallback" not in flags(own("slow_in_half"), size=256, dtype="bfloat16", threads=1)
    assert "cpu_fallback" not in flags("transpose_copy", size=256, dtype="int16", threads=1)
    assert "cpu_fallback" not in flags(own("slow_in_half"), size=256, dtype="float64", threads=1)


def test_float32_is_measured_once_for_an_operation_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "_seen", {})
    for dtype in ("float16", "bfloat16", "int8", "float32"):
        row(own("slow_in_half", dtypes=["floating", "integer"]), size=32, dtype=dtype)
    assert len(detectors._seen) == 1
    row(own("slow_in_half"), size=64, dtype="float16")
    assert len(detectors._seen) == 2


def only_integers(x: torch.Tensor) -> torch.Tensor:
    """What float32 is refused."""
    return x << 1


def test_an_operation_that_knows_no_float32_has_nothing_to_fall_back_from() -> None:
    assert "cpu_fallback" not in flags(own("only_integers", dtypes=["integer"]), size=32, dtype="int32")


# first_touch


def test_a_large_fresh_output_is_flagged() -> None:
    pytest.importorskip("resource")
    assert any(
        "first_touch" in flags(own("filled"), size=4096, threads=1, limit=Limit(time_s=60)) for _ in range(TRIES)
    )


def test_memory_that_is_used_again_is_not_fresh() -> None:
    assert "first_touch" not in flags(own("filled"), size=256)
    assert "first_touch" not in flags("matmul", size=256)


def test_a_detector_that_fails_raises_no_flag_and_spoils_no_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*given: Any) -> bool:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(detectors, "cpu_fallback", broken)
    assert row("add", size=32, dtype="float16").status == "ok"
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
    found = row(own("nothing", **HALF), size=256, dtype=dtype)
    assert found.max_relative_error == 1.0
    assert "wrong_values" in found.flags
    assert "wrong_values" not in flags("sum", size=256, dtype=dtype)


def test_a_nan_in_any_output_is_a_wrong_value() -> None:
    assert "wrong_values" in flags(own("with_nan", signature="m n -> m n, m n"), size=8)


@pytest.mark.parametrize(("op", "moves"), [("sum", False), ("add", False), ("exp", True), ("transpose", False)])
def test_a_backward_pass_that_moves_no_data_is_a_view(op: str, moves: bool) -> None:
    assert ("view" in flags(op, size=16, direction="backward")) is not moves
