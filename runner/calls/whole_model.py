"""A whole model as a call: made by the user's function, and a pass of it, or a step of training."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from runner.calls.bound_operation import is_differentiable, outputs_of
from runner.config.callables import load_callable
from runner.config.operation import Operation
from runner.errors import ConfigError, one_line

Made = TypeVar("Made")
LEARNING_RATE = 1e-3  # of a step, by plain gradient descent
COPIES = 3  # of a model's parameters: its own, their gradients, and what lies between the layers


class Pass(nn.Module):
    """What is done with a model at each call; its inputs are the model's.

    A forward pass gives its outputs; backward, after a forward pass, the gradients of the sum of
    its outputs by the parameters; and a step changes the parameters by them, and gives those.
    """

    def __init__(self, model: Callable[..., Any], passes: str) -> None:
        super().__init__()
        self.model, self.passes = model, passes

    def forward(self, *args: object, **kwargs: object) -> object:
        """The pass, with the parameters that the module holds now."""
        if self.passes == "forward":
            with torch.no_grad():
                return self.model(*args, **kwargs)
        with torch.enable_grad():
            held = [p for p in self.parameters() if is_differentiable(p.dtype)]
            needed = [p.requires_grad for p in held]
            for parameter in held:
                parameter.requires_grad_()
            outputs = [t for t in outputs_of(self.model(*args, **kwargs)) if t.requires_grad]
            gradients = torch.autograd.grad(
                outputs, held, [torch.ones_like(t) for t in outputs], allow_unused=True
            )
        with torch.no_grad():
            for parameter, gradient, need in zip(held, gradients, needed, strict=True):
                parameter.requires_grad_(need)
                if self.passes == "step" and gradient is not None:
                    parameter.sub_(gradient, alpha=LEARNING_RATE)
        return [gradient for gradient in gradients if gradient is not None]


def made_model(loaded: Callable[..., Any], passes: str, seed: int, who: str) -> Pass:
    """The model that a dotted name gives, ready for a pass; ConfigError where it makes none.

    It is a module, a class of modules, a function without arguments that makes one (or any
    callable), or else the function of the inputs itself.
    """
    model: Any = loaded
    if isinstance(loaded, type) or (not isinstance(loaded, nn.Module) and _needs_nothing(loaded)):
        advice = "; give a function without arguments"
        model = _made(loaded, seed, f"{who} cannot be built", advice)
    if not callable(model):
        raise ConfigError(f"{who} made a {type(model).__name__}, which cannot be called")
    whole = Pass(model, passes)
    return whole.eval() if passes == "forward" else whole.train()


def _made(make: Callable[[], Made], seed: int, problem: str, advice: str = "") -> Made:
    """What a function makes from a seed; ConfigError with these words where it raises."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()
    except Exception as error:
        why = f"{type(error).__name__}: {one_line(error, 160)}"
        raise ConfigError(f"{problem}: {why}{advice}") from error


def _needs_nothing(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # functions written in C may not say
        return False
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in several for p in parameters)


def place_of(op: Operation, free_bytes: int | None) -> str:
    """Where a model is made to be traced: the CPU, or meta where its memory would not suffice.

    A model on meta has shapes and no numbers; one that cannot be made there is made on the CPU.
    """
    try:
        with torch.device("meta"):
            model = made_model(load_callable(op.call, "model"), op.passes, 0, op.call)
    except ConfigError:
        return "cpu"
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    return "cpu" if free_bytes is None or COPIES * size <= free_bytes else "meta"


def model_and_inputs(
    op: Operation, seed: int, where: str
) -> tuple[Pass, tuple[list[Any], dict[str, Any]]]:
    """A model that is to be traced, and its inputs, by position and by name.

    Both are made on the device ``where``. ConfigError where either cannot be.
    """
    with torch.device(where):
        loaded = load_callable(op.call, "model")
        model = made_model(loaded, op.passes, seed, f"model={op.call}")
        make = load_callable(op.inputs_from, "inputs")
        made = _made(make, seed, f"inputs={op.inputs_from} cannot be made")
    if isinstance(made, Mapping):
        return model, ([], dict(made))
    return model, ([made] if isinstance(made, Tensor) else list(made), {})


def check_model(op: Operation, free_bytes: int | None) -> None:
    """Run a model once: ConfigError, before all else, where it does not take its inputs."""
    model, (args, kwargs) = model_and_inputs(op, 0, place_of(op, free_bytes))
    try:
        model(*args, **kwargs)
    except Exception as error:
        problem = f"{type(error).__name__}: {one_line(error, 200)}"
        what = f"model={op.call} does not take what inputs={op.inputs_from} gives"
        raise ConfigError(f"{what}: {problem}") from error
