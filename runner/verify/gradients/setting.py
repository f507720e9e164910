"""One call under test, and how its inputs and cotangents are moved and taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runner.calls.bound_operation import is_differentiable
from runner.verify.gradients.subject import Call, Tensors
from runner.verify.gradients.vjp import Traced, copied, gaussian, trace, unflat


@dataclass(frozen=True)
class Setting:
    """One call under test: where, of what, and under which name.

    Attributes:
        probe: as results name it.
        call, inputs: what is called with what, in float64.
        wanted: which inputs have a gradient.
        names: of the inputs.
        in_place: whether the operation overwrites its inputs on purpose.
        each: whether every element is looked at by itself, rather than some directions through all of them.
        special: whether gradients may be one of several there, as at ties.
        every_output: whether an output without a graph counts beside others that have one.
        eps: of the precision in which the function computes, whatever its inputs are.
    """

    probe: str
    call: Call
    inputs: tuple[torch.Tensor, ...]
    wanted: tuple[bool, ...]
    names: tuple[str, ...]
    seed: int
    in_place: bool = False
    each: bool = True
    special: bool = False
    every_output: bool = False
    eps: float = torch.finfo(torch.float64).eps

    def traced(self, inputs: Sequence[torch.Tensor]) -> Traced:
        """Call with a graph at these inputs, used as they lie in memory."""
        return trace(self.call, inputs, self.wanted, in_place=self.in_place, every_output=self.every_output)

    @property
    def positions(self) -> list[int]:
        """Of the inputs that have a gradient."""
        return [i for i, w in enumerate(self.wanted) if w]


def second_order(setting: Setting) -> Setting:
    """The gradient as a function of inputs and cotangents, whose own gradient is the second derivative."""
    outputs = setting.traced(copied(setting.inputs)).outputs
    generator = torch.Generator().manual_seed(setting.seed + 14)
    cotangents = [gaussian(t, generator).to(t.device, t.dtype) for t in outputs]
    count = len(setting.inputs)

    def call(tensors: Tensors) -> Tensors:
        given, weights = list(tensors[:count]), tensors[count:]
        with torch.enable_grad():
            for i, w in enumerate(setting.wanted):
                if w and not given[i].requires_grad:
                    given[i] = given[i].detach().requires_grad_()
            leaves = [t for t, w in zip(given, setting.wanted, strict=True) if w]
            passed = [t.clone() if setting.in_place else t for t in given]
            made = [t for t in setting.call(passed) if t.requires_grad]
            found = torch.autograd.grad(made, leaves, weights[: len(made)], create_graph=True, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True)]

    return Setting(
        probe="second order",
        call=call,
        inputs=(*setting.inputs, *cotangents),
        wanted=(*setting.wanted, *(True for _ in cotangents)),
        names=(*setting.names, *(f"cotangent {j}" for j in range(len(cotangents)))),
        seed=setting.seed,
        each=setting.each,
        every_output=True,
        eps=setting.eps,
    )


def nudged(tensor: torch.Tensor, roundoff: float, generator: torch.Generator) -> torch.Tensor:
    """A tensor each of whose elements has moved by one relative roundoff, up or down."""
    if not is_differentiable(tensor.dtype):
        return tensor
    signs = (torch.randint(2, tensor.shape, generator=generator) * 2 - 1).to(tensor.device)
    return tensor * (1 + roundoff * signs)


def split_row(row: torch.Tensor, outputs: Sequence[torch.Tensor]) -> Tensors:
    """A real row as a cotangent for each output."""
    sizes = [t.numel() * (2 if t.is_complex() else 1) for t in outputs]
    return [unflat(part, t) for part, t in zip(torch.split(row, sizes), outputs, strict=True)]


def index_text(element: int, tensor: torch.Tensor) -> str:
    """An element's position, ``3,1``, from its place in :func:`runner.verify.gradients.vjp.flat`."""
    place = element // 2 if tensor.is_complex() else element
    index = []
    for n in reversed(tensor.shape):
        place, rest = divmod(place, n)
        index.append(rest)
    return ",".join(map(str, reversed(index)))


def most(tensor: torch.Tensor) -> float:
    """The largest absolute value among the finite elements; 0 where there is none."""
    return tensor.abs().nan_to_num(0.0, 0.0).max().item() if tensor.numel() else 0.0
