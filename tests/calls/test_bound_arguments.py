"""The signature ``* -> *``: a function of the user's makes what a call gets, nested at will."""

from typing import Any

import pytest
import torch
from torch import Tensor

from runner.calls.bound_arguments import BoundArguments
from runner.calls.bound_operation import BoundOperation
from runner.config.operation import Operation
from runner.config.size import parse_size
from runner.errors import ConfigError
from tests.support.factories import ran
from tests.support.mutants import made

HERE = "tests.calls.test_bound_arguments"
OPEN = {"name": "open", "signature": "* -> *", "size": 3, "tolerance": "rounding"}

halved = made(lambda x: x.sin(), lambda g, x: 0.5 * g * x.cos())


def arguments(
    dimensions: dict[str, int], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> tuple[list[Any], dict[str, Any]]:
    """A list of vectors, a factor and a mask without a gradient, and by name a dtype."""
    count = dimensions["n"]
    vectors = [torch.randn(count, generator=generator, dtype=dtype) for _ in range(2)]
    mask = torch.randn(count, generator=generator).sign().to(dtype)
    parts = [t.requires_grad_() for t in vectors]
    return [parts, 2.5, mask], {"wanted": {"dtype": dtype}}


def one_tensor(
    dimensions: dict[str, int], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Tensor:
    """Not what such a signature needs."""
    return torch.ones(3)


def combined(
    parts: list[Tensor], factor: float, mask: Tensor, wanted: dict[str, torch.dtype]
) -> dict[str, Tensor]:
    """Work on what is nested; the mask's gradient, which is wrong, is not asked for."""
    first, second = parts
    assert wanted["dtype"] == first.dtype  # in the reference's float64 too
    return {"y": first.exp() * factor + mask.detach(), "z": (first * second).to(**wanted)}


def combined_wrong(
    parts: list[Tensor], factor: float, mask: Tensor, wanted: dict[str, torch.dtype]
) -> Tensor:
    """A wrong gradient, and wrong values in all dtypes but one."""
    values = halved(parts[0]) + parts[1] * factor * mask
    return values if parts[0].dtype is torch.float64 else values * 1.001


def cancelling(
    parts: list[Tensor], factor: float, mask: Tensor, wanted: dict[str, torch.dtype]
) -> Tensor:
    """Right, and far less exact than its dtype, since most digits cancel on the way."""
    return (parts[0] + 1e5) - 1e5 + parts[1]


def cancelling_wrong(
    parts: list[Tensor], factor: float, mask: Tensor, wanted: dict[str, torch.dtype]
) -> Tensor:
    """The same, and farther off than that explains."""
    right = cancelling(parts, factor, mask, wanted)
    return right if right.dtype is torch.float64 else right + 1


def own(call: str, make: str = "arguments", **fields: Any) -> dict[str, Any]:
    return {**OPEN, "call": f"{HERE}.{call}", "inputs_from": f"{HERE}.{make}", **fields}


def test_tensors_anywhere_in_the_arguments_are_inputs_and_the_rest_constants() -> None:
    row = ran(own("combined"), size=5)
    assert (row.status, row.gradient, row.checked, row.size) == ("ok", "pass", "full", "5")
    assert (row.inputs, row.input_bytes, row.outputs) == (3, 3 * 5 * 4, 2)
    assert row.max_relative_error is not None and row.allowed_relative_error is not None


def test_wrong_values_and_gradients_of_such_calls_are_found() -> None:
    row = ran(own("combined_wrong"))
    assert {"wrong_values", "wrong_gradient"} <= set(row.flags)


def test_a_tolerance_by_rounding_follows_what_cancels() -> None:
    by_rounding, usual = (ran(own("cancelling", tolerance=t)) for t in ("rounding", 8))
    assert not {"wrong_values", "unchecked"} & set(by_rounding.flags)
    assert "unchecked" in usual.flags and "wrong_values" not in usual.flags
    assert usual.reason is not None and "write tolerance: rounding" in usual.reason
    for tolerance in ("rounding", 8):
        wrong = ran(own("cancelling_wrong", tolerance=tolerance))
        assert "wrong_values" in wrong.flags
    assert by_rounding.allowed_relative_error is not None
    assert 1e-3 < by_rounding.allowed_relative_error < 1  # some roundoffs of 1e5 beside 1


def placed(
    dimensions: dict[str, int], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> tuple[list[Any], dict[str, Any]]:
    """A vector, and where another is to be made."""
    return [torch.ones(dimensions["n"], dtype=dtype)], {"device": device}


def test_a_device_among_the_arguments_is_the_calls() -> None:
    op = Operation.from_mapping(own("placed", make="placed"), "test")
    given = op, torch.zeros_like, op.bind(parse_size(3)), torch.float32, 1
    made = BoundArguments.of(BoundOperation(*given))
    for device in ("cpu", "meta"):
        (result,) = made.outputs([t.to(device) for t in made.draw()])
        assert result.device.type == device


def test_what_is_no_call_says_so() -> None:
    row = ran(own("combined", make="one_tensor"))
    assert row.status == "failed" and row.reason is not None
    assert "made a Tensor" in row.reason and "a list of arguments and a mapping" in row.reason
    with pytest.raises(ConfigError, match="inputs_from: makes what the call gets; give it"):
        Operation.from_mapping({**OPEN, "call": "torch.exp"}, "test")
