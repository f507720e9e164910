"""The oracle of float64: gradients in a dtype on a device against those of the same inputs."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable
from runner.config.size import shape_text
from runner.rows.rows import GradientCheck
from runner.verify.gradients.finding import Worst, relative
from runner.verify.gradients.precision import moved_by_rounding
from runner.verify.gradients.problem import GradientProblem, outputs_at
from runner.verify.gradients.slope_comparison import USEFUL
from runner.verify.gradients.vectors import (
    Tensors,
    copied,
    farthest,
    flat,
    gaussian,
    index_text,
    largest,
    max_abs,
    perturbed,
    random_cotangents,
)
from runner.verify.rounding import rounding_bound, summing_factor

SMALLEST_NORMAL = 2.0**-900  # of what is worth counting in units of the last place
DRAWS = 6  # of inputs one roundoff away, to see how far a gradient moves

# relative to the cotangent: a gradient below is all rounding, of terms taken to be at most so large
VANISHING = 1e-12
LARGEST_TERM = 1e3

HELD = 1 / 16  # of a dtype's range: beyond it terms on the way to a gradient may overflow
NEARER = 0.25  # times as far from the slopes of its own forward pass as float64's gradient is
TWO_FUNCTIONS = (
    "the function itself differs between dtypes, and this gradient is its own's; "
    "in an op file write reference: a callable that has this dtype's constants"
)


def by_reference(
    problem: GradientProblem,
    dtype: torch.dtype,
    device: torch.device,
    roundoffs: float,
    usual: Sequence[float] = (),
    *,
    alike: float | None = None,
    usable: bool = True,
    held: float = HELD,
    is_compared: bool = False,
) -> list[GradientCheck]:
    """Compare gradients in a dtype on a device with float64 on the CPU, from the same numbers.

    The problem's inputs are in float64; ``roundoffs`` is the error that the operation declares, in
    roundoffs of the largest element. ``usual`` is what :func:`gradient_scales` says of these shapes
    at usual inputs: a gradient that is far smaller may be the rest of a difference, of which
    rounding explains more. ``alike`` is what all cotangents are, as those of a loss that is a sum:
    a sum that is added up in half precision then stands still, and nothing but its length would
    explain that, which is no excuse. ``usable`` says whether somebody may mean to have inputs of
    this size, at which a value that is lost is a failure; ``held`` up to which share of the dtype's
    range a gradient may not overflow; ``is_compared`` that a function which is another one in the
    dtype is no excuse.
    """
    info = torch.finfo(dtype)
    eps = max(info.eps, problem.eps)  # the function may compute in less than its inputs have
    sides = _BothSides(problem, dtype, device, alike)
    moved = sides.moved(eps / 2)
    weight = largest(sides.cotangents, 1.0)
    underflow = rounding_bound(info.smallest_normal, max(1.0, weight))
    declared = roundoffs * eps / 2
    if declared > USEFUL:
        declared = 0.0

    checks = sides.values_lost("fail" if usable else "inconclusive")
    columns = zip(problem.arguments, sides.got, sides.expected, moved, strict=True)
    for column, (name, got, expected, change) in enumerate(columns):
        scale = max_abs(expected)
        bound = max(rounding_bound(eps / 2, scale, change), declared * scale)
        longer = 2.0 if alike else summing_factor(sides.cotangents, expected)
        bound = bound * longer + underflow
        shape = shape_text(tuple(expected.shape))
        check = GradientCheck(problem.probe, "float64_reference", name, shape)
        check = _compared(check, got.to(expected.dtype), expected, bound, eps)

        # a failure that the dtype's limits explain is none
        term = usual[column] if usual else 0.0
        if scale <= VANISHING * weight:
            term = LARGEST_TERM
        lost = rounding_bound(eps, term * weight)
        if check.verdict == "fail" and (check.max_abs_error or 0.0) <= lost:
            reason = "rounding of larger terms explains the difference"
            check = replace(check, verdict="inconclusive", reason=reason)
        if check.verdict == "fail" and (sides.overflow or scale > held * info.max):
            reason = f"{str(dtype).removeprefix('torch.')} overflows here"
            check = replace(check, verdict="inconclusive", reason=reason)
        if check.verdict == "fail" and not is_compared and sides.are_two_functions():
            check = replace(check, verdict="inconclusive", reason=TWO_FUNCTIONS)
        checks.append(check)
    return checks


class _BothSides:
    """Gradients from the same numbers, in the dtype on the device and in float64 on the CPU.

    Attributes:
        problem: in float64, its inputs rounded to the dtype and widened again.
        cotangents: likewise.
        got, expected: the gradients of the device and in float64, on the CPU.
        overflow: whether some output of the device is not finite.
    """

    def __init__(
        self,
        problem: GradientProblem,
        dtype: torch.dtype,
        device: torch.device,
        alike: float | None,
    ) -> None:
        self.generator, self.dtype, self.device = problem.generator(16), dtype, device
        rounded = [narrowed(t, dtype) for t in problem.inputs]
        wide = [t.to(w.dtype) for t, w in zip(rounded, problem.inputs, strict=True)]
        self.problem = replace(problem, inputs=tuple(wide))
        traced = problem.traced([t.to(device, copy=True) for t in rounded])
        reference = problem.traced(copied(wide))
        self.positions = reference.positions
        self.overflow = not all(bool(t.detach().isfinite().all()) for t in traced.outputs)

        values = ([t.detach().cpu() for t in side.outputs] for side in (traced, reference))
        self.outputs = list(zip(*values, strict=True))
        cotangents = [gaussian(t, self.generator).to(t.dtype) for t in traced.outputs]
        if alike:
            cotangents = [torch.full_like(c, alike) for c in cotangents]
        pairs = zip(cotangents, reference.outputs, strict=True)
        self.cotangents = [c.to(t.dtype) for c, t in pairs]
        self.expected = reference.gradients(self.cotangents)
        self.got = [g.cpu() for g in traced.gradients([c.to(device) for c in cotangents])]

    def values_lost(self, verdict: str) -> list[GradientCheck]:
        """A check of its own where a value is infinite or NaN in a dtype that can hold it."""
        check = GradientCheck(self.problem.probe, "float64_reference", verdict=verdict)
        for got, expected in self.outputs:
            held = expected.abs() <= torch.finfo(got.dtype).max
            for index in (held & ~got.isfinite()).flatten().nonzero().flatten().tolist()[:1]:
                value, right = got.flatten()[index].item(), expected.flatten()[index].item()
                where = f"the function's value at [{index_text(index, got)}]"
                dtype = str(got.dtype).removeprefix("torch.")
                reason = f"{where} is {value} in {dtype}, and {right:.6g} in float64"
                return [replace(check, got=value.real, expected=right.real, reason=reason)]
        return []

    def are_two_functions(self) -> bool:
        """Whether the values differ by more than rounding, and the gradient goes with its own.

        The slopes of the forward pass in the dtype, over steps that balance its rounding and its
        curvature, are nearer to the gradient there than to float64's.
        """
        roundoff, inputs = torch.finfo(self.dtype).eps / 2, self.problem.inputs
        wide = self._values(inputs, torch.float64)

        def others() -> Tensors:
            return [self._values(perturbed(inputs, roundoff, self.generator), torch.float64)]

        (change,) = farthest([wide], others, DRAWS)
        apart = (self._values(inputs, self.dtype) - wide).abs()
        if bool((apart <= rounding_bound(roundoff, wide.abs(), change)).all()):
            return False

        # along the elements in question alone, since the rounding of others would be in the way
        differences = [
            (g.to(e.dtype) - e).abs() for g, e in zip(self.got, self.expected, strict=True)
        ]
        most = largest(differences)
        of_own, of_wide = 0.0, 0.0
        for _ in range(DRAWS):
            tried = zip(self.problem.positions, differences, strict=True)
            offsets = {i: self._offset(inputs[i]) * (2 * d >= most) for i, d in tried}
            slope, steps = torch.zeros(()), torch.zeros(())
            for factor, weight in ((1, 8.0), (2, -1.0)):  # what is left is of fifth order
                up, down = list(inputs), list(inputs)
                for i, offset in offsets.items():
                    up[i] = narrowed(inputs[i] + factor * offset, self.dtype).to(offset.dtype)
                    down[i] = narrowed(inputs[i] - factor * offset, self.dtype).to(offset.dtype)
                change = self._values(up, self.dtype) - self._values(down, self.dtype)
                slope = slope + weight * (change @ flat(self.cotangents))
                steps = steps + weight * flat([up[i] - down[i] for i in offsets])
            of_own += float((slope - flat(self.got) @ steps) ** 2)
            of_wide += float((slope - flat(self.expected) @ steps) ** 2)
        return of_own < NEARER**2 * of_wide

    def _offset(self, tensor: Tensor) -> Tensor:
        step = float((torch.finfo(self.dtype).eps / 2) ** (1 / 5))
        return perturbed([tensor], step, self.generator)[0] - tensor

    def _values(self, inputs: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """The differentiable outputs in the dtype on the device, or in float64 on the CPU."""
        where = "cpu" if dtype is torch.float64 else self.device
        own = [narrowed(t, dtype).to(where, copy=True) for t in inputs]
        outputs = outputs_at(self.problem.call, own)
        return flat([outputs[i] for i in self.positions])

    def moved(self, roundoff: float) -> list[float]:
        """How far float64 gradients move with inputs, cotangents and each step, by a roundoff."""

        def at(inputs: Tensors, cotangents: Tensors) -> Tensors:
            for i in self.problem.symmetric:  # what factors a matrix is as exact as its norm
                noise = gaussian(inputs[i], self.generator)
                inputs[i] = inputs[i] + roundoff * max_abs(inputs[i]) * noise
            return self.problem.traced(inputs).gradients(cotangents)

        parts = self.problem.inputs, self.cotangents
        moved = moved_by_rounding(self.expected, at, parts, roundoff, self.generator, draws=DRAWS)
        return list(map(max_abs, moved))


def gradient_scales(problem: GradientProblem) -> list[float]:
    """The usual size of gradients: the largest element of each, over the largest cotangent."""
    traced = problem.traced(copied(problem.inputs))
    cotangents = random_cotangents(traced.outputs, problem.generator(18))
    weight = largest(cotangents, 1.0) or 1.0
    return [max_abs(g) / weight for g in traced.gradients(cotangents)]


def narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A float64 or complex128 tensor as it is when others have ``dtype``; integers stay."""
    if not is_differentiable(tensor.dtype):
        return tensor
    if tensor.is_complex() and not dtype.is_complex:
        dtype = torch.complex128 if dtype is torch.float64 else torch.complex64
    elif dtype.is_complex and not tensor.is_complex():
        dtype = torch.float64 if dtype is torch.complex128 else torch.float32
    return tensor.to(dtype)


def _compared(
    check: GradientCheck, got: Tensor, expected: Tensor, bound: float, eps: float
) -> GradientCheck:
    """A check with its verdict on a gradient; ``bound`` is the largest error allowed."""
    if not expected.numel():
        return replace(check, verdict="pass", max_abs_error=0.0, max_relative_error=0.0)

    if not bool(expected.isfinite().any()):
        why = f"the gradient of input {check.argument} is nowhere finite in float64 either"
        return replace(check, verdict="inconclusive", reason=why)
    scale, worst = max_abs(expected), Worst(got, expected)
    useful = bound <= max(USEFUL, 64 * eps) * scale or worst.error == 0
    error, allowed = relative(worst.error, scale), relative(bound, scale)
    verdict, reason = "pass", None
    if worst.error > bound:
        verdict = "fail"
        reason = f"the gradient of input {check.argument} is off by {error:.3g} of its scale; "
        reason += f"{allowed:.3g} is allowed"
        if not cmath.isfinite(worst.got):
            what = f"the gradient of input {check.argument} at [{worst.index}]"
            reason = f"{what} is {worst.got}, not {worst.expected}"
    elif scale and not useful:
        verdict = "inconclusive"
        reason = f"rounding alone explains {allowed:.2g} of its scale"
    check = replace(worst.put_into(check, bound, scale), verdict=verdict, reason=reason)

    # in units of the last place of the expected element
    size = abs(worst.expected)
    if math.isfinite(worst.error) and math.isfinite(size) and size >= SMALLEST_NORMAL:
        check = replace(check, ulp=worst.error / (eps * 2.0 ** math.floor(math.log2(size))))
    return check
