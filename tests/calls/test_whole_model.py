"""A model as a call: a forward pass, its gradients, a step; and what cannot be built."""

import pytest
import torch
from torch import nn

from runner.calls.module import ModuleFunction
from runner.calls.whole_model import LEARNING_RATE, check_model, made_model, place_of
from runner.config.operation import Operation
from runner.errors import ConfigError


def make_model() -> nn.Module:
    return nn.Linear(3, 2)


def make_inputs() -> torch.Tensor:
    return torch.ones(4, 3)


def make_wrong_inputs() -> torch.Tensor:
    return torch.ones(4, 5)


def make_a_number() -> int:
    return 3


def fails() -> nn.Module:
    raise RuntimeError("no weights\nhere")


def doubled(tensor: torch.Tensor) -> torch.Tensor:
    return 2 * tensor


def traced(model: str = "make_model", inputs: str = "make_inputs") -> Operation:
    here = "tests.calls.test_whole_model"
    names = {"call": f"{here}.{model}", "inputs_from": f"{here}.{inputs}"}
    return Operation(name="m", signature="n -> n", passes="forward", **names)


def held(passes: str) -> tuple[nn.Module, list[torch.Tensor], torch.Tensor]:
    """A model that holds tensors of a test's own, as it does while it is timed."""
    function = ModuleFunction(made_model(make_model, passes, 0, "m"))
    inputs, parameters = make_inputs(), function.parameters(torch.float32)
    return function.holding([inputs], parameters), parameters, inputs


def test_a_pass_gives_outputs_gradients_or_changed_parameters() -> None:
    model, (weight, bias), inputs = held("forward")
    assert torch.equal(model(inputs), inputs @ weight.T + bias)

    model, _, inputs = held("backward")
    gradients = model(inputs)
    assert torch.equal(gradients[0], torch.full((2, 3), 4.0))
    assert torch.equal(gradients[1], torch.full((2,), 4.0))

    model, parameters, inputs = held("step")
    before = parameters[0].clone()
    model(inputs)
    assert torch.allclose(parameters[0], before - LEARNING_RATE * 4)
    assert not parameters[0].requires_grad


def test_any_callable_is_a_model() -> None:
    for model in (nn.ReLU, nn.ReLU(), doubled):
        assert made_model(model, "forward", 0, "m")(torch.ones(2)).shape == (2,)
    assert made_model(lambda: doubled, "forward", 0, "m")(torch.ones(1)).item() == 2


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("fails", "make_inputs", "cannot be built: RuntimeError: no weights here; give"),
        ("make_a_number", "make_inputs", "made a int, which cannot be called"),
        ("make_model", "fails", "cannot be made: RuntimeError: no weights here"),
        ("make_model", "make_wrong_inputs", "does not take what inputs="),
    ],
)
def test_what_does_not_fit_is_one_line(model: str, inputs: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_model(traced(model, inputs), None)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_model_that_is_too_large_goes_through_without_numbers() -> None:
    assert place_of(traced(), 10**6) == "cpu"
    assert place_of(traced(), 10) == "meta"
    check_model(traced(), 10)
