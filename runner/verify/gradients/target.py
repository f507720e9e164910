"""What is verified: a callable with inputs, their domains, and inputs of other shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.config.domain import Domain
from runner.verify.gradients.problem import outputs_at
from runner.verify.gradients.vectors import TensorFunction, Tensors, copied, flat


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
        """What the function makes of copies."""
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
