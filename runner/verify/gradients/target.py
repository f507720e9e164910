"""What is verified: a callable with inputs, their domains, and inputs of other shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable, outputs_of
from runner.config.domain import Domain
from runner.verify.gradients.problem import outputs_at
from runner.verify.gradients.vectors import TensorFunction, Tensors, copied, flat
from runner.verify.values import reference_input


@dataclass(frozen=True)
class ShapedInputs:
    """Inputs of one set of shapes, and the function that takes them.

    Attributes:
        name: of the shapes (example, tiny, odd, ...), or of the numbers (fresh, zeros, ...).
        call: the function; its constants may depend on the shapes.
        inputs: floating ones in float64 or complex128.
        declared: whether the target declares these shapes; others are guesses, which it may refuse.
        special: whether gradients may be undefined there by right: zeros, ties, ends of domains.
    """

    name: str
    call: TensorFunction
    inputs: tuple[Tensor, ...]
    declared: bool = True
    special: bool = False

    @property
    def elements(self) -> int:
        """Of all inputs together."""
        return sum(t.numel() for t in self.inputs)

    def runs(self) -> bool:
        """Whether the function takes these inputs."""
        try:
            self.outputs()
        except Exception:  # whatever it raises
            return False
        return True

    def outputs(self) -> Tensors:
        """What the function makes of copies, see :func:`outputs_at`."""
        return outputs_at(self.call, copied(self.inputs))


def effective_eps(shaped: ShapedInputs) -> float:
    """The eps of the narrowest dtype that holds a function's values: it may compute in that."""
    if shaped.runs():
        values = flat([t for t in shaped.outputs() if is_differentiable(t.dtype)]).nan_to_num()
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            if torch.equal(values.to(dtype).double(), values):
                return torch.finfo(dtype).eps
    return torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class GradientTarget:
    """A function whose gradients are verified.

    Attributes:
        example: the declared inputs, which may have been chosen to be equal, or zeros.
        arguments: the inputs' names.
        requires_grad: which inputs have a gradient.
        domains: the domain of each input; None: to be inferred.
        other_shapes: inputs of other shapes, small ones ("tiny") first.
        roundoffs: the error that the function itself explains, in unit roundoffs of the dtype.
        seed: of everything that is drawn.
        costly: whether a call at a new shape takes long, as it does through a compiler.
    """

    example: ShapedInputs
    arguments: tuple[str, ...]
    requires_grad: tuple[bool, ...]
    domains: tuple[Domain | None, ...]
    other_shapes: tuple[ShapedInputs, ...] = ()
    roundoffs: float = 0.0
    seed: int = 0
    costly: bool = False


def function_target(
    function: Callable[..., object],
    inputs: Sequence[Tensor],
    *,
    names: Sequence[str] = (),
    domains: Sequence[Domain | None] = (),
    requires_grad: Sequence[bool] = (),
    seed: int = 0,
) -> GradientTarget:
    """A target made of a plain function of tensors and one set of inputs.

    The function takes them by position, widened to float64, and returns a tensor, or a tuple or
    list with some. By default inputs are named by position, their domains are inferred, and those
    of floating or complex dtype have a gradient.
    """
    differentiable = [is_differentiable(t.dtype) for t in inputs]
    pairs = zip(inputs, differentiable, strict=True)
    wide = tuple(reference_input(t.detach()) if d else t for t, d in pairs)
    return GradientTarget(
        example=ShapedInputs("example", lambda tensors: outputs_of(function(*tensors)), wide),
        arguments=tuple(names) or tuple(map(str, range(len(inputs)))),
        requires_grad=tuple(requires_grad or differentiable),
        domains=tuple(domains) or (None,) * len(inputs),
        seed=seed,
    )
