"""When two results are alike though their numbers differ: positions, signs, random draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from runner.calls.bound_operation import is_differentiable

UNIT = 1e-6  # how far from 1 the norm of a factor's vectors may be in float64
SPREADS = 8.0  # of moments over several draws: farther apart than this is no chance
COARSE = 0.02  # of a moment, that rounding may change


def point_alike(inputs: Iterable[Tensor], got: Tensor, expected: Tensor) -> Tensor:
    """Where two results, taken for positions in an input, point at equal elements of it."""
    masks = [torch.zeros(got.shape, dtype=torch.bool)]
    if got.dtype is not torch.bool:
        for tensor in filter(lambda t: is_differentiable(t.dtype), inputs):
            masks += _pointing_alike(tensor, got.long(), expected.long())
    return max(masks, key=lambda mask: int(mask.sum()))


def _pointing_alike(tensor: Tensor, got: Tensor, expected: Tensor) -> Iterator[Tensor]:
    """The same in one input, along each of its dimensions that they may be positions of."""
    if got.ndim == 0:  # of all elements
        tensor, got, expected = tensor.flatten(), got[None], expected[None]
    for dim, length in enumerate(tensor.shape):
        pair = [got, expected]
        if got.ndim == tensor.ndim - 1:
            pair = [positions.unsqueeze(dim) for positions in pair]
        others = [[*t.shape[:dim], *t.shape[dim + 1 :]] for t in (tensor, pair[0])]
        if pair[0].ndim != tensor.ndim or others[0] != others[1]:
            continue
        there = (pair[0] >= 0) & (pair[0] < length)
        one, other = (torch.take_along_dim(tensor, p.clamp(0, length - 1), dim) for p in pair)
        yield (there & ((one == other) | (one.isnan() & other.isnan()))).reshape(got.shape)


def changed_by(moved: Iterable[Sequence[Tensor]], expected: Sequence[Tensor], index: int) -> Tensor:
    """Which elements of one of the results are others where the inputs have moved."""
    usual = expected[index]
    changed = torch.zeros(usual.shape, dtype=torch.bool)
    for results in moved:
        other = results[index]
        changed |= other != usual if other.shape == usual.shape else torch.tensor(data=True)
    return changed


def ordered(factors: Sequence[Tensor]) -> list[Tensor]:
    """Complex values with the vectors that belong to them, in an order that nothing promises."""
    first, *others = factors
    if not others or first.ndim != 1 or not first.is_complex():
        return [*factors]
    order = first.imag.argsort()
    order = order[first.real[order].argsort(stable=True)]
    return [t[..., order] if t.shape[-1:] == first.shape else t for t in factors]


def aligned(got: Tensor, expected: Tensor) -> Iterator[Tensor]:
    """A result as it is, and with its columns or its rows turned to the signs of another's.

    The sign of a complex vector is a number of absolute value 1.
    """
    wide = got.to(expected.dtype)
    yield wide
    if wide.ndim >= 2 and is_differentiable(got.dtype):
        yield from (wide * _signs(wide, expected, dim) for dim in (-2, -1))


def has_free_sign(got: Tensor, expected: Tensor) -> bool:
    """Whether some, but not all, of a factor's unit vectors have the other sign."""
    if expected.ndim < 2 or not is_differentiable(got.dtype):
        return False
    for dim in (-2, -1):
        norms = torch.linalg.vector_norm(expected, dim=dim)
        same = (_signs(got.to(expected.dtype), expected, dim) - 1).abs() < 1e-3
        is_unit = bool(((norms - 1).abs() < UNIT).all())
        if is_unit and bool(same.any()) and not bool(same.all()):
            return True
    return False


def _signs(got: Tensor, expected: Tensor, dim: int) -> Tensor:
    product = (expected * got.conj()).sum(dim, keepdim=True)
    return torch.where(product == 0, 1.0, product / product.abs())


def moments_differ(drawn: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]]) -> bool:
    """Whether results of several draws differ in mean, mean square or finiteness from others."""
    ours, theirs = (torch.stack([_moments(results) for results in of]) for of in (drawn, expected))
    if ours.shape != theirs.shape:
        return True
    apart = (ours.mean(0) - theirs.mean(0)).abs()
    chance = ((ours.var(0) + theirs.var(0)) / len(drawn)).sqrt()
    return bool((apart > SPREADS * chance + COARSE * theirs.abs().mean(0)).any())


def _moments(results: Sequence[Tensor]) -> Tensor:
    moments: list[Tensor] = []
    for result in results:
        sizes = result.abs() if result.is_complex() else result
        wide = sizes.to("cpu", torch.float64).nan_to_num(0.0, 0.0, 0.0)
        finite = result.isfinite().double()
        # the mean is beside the root mean square, which is never 0 by chance
        size = wide.square().mean().sqrt()
        moments += [size + wide.mean(), size, finite.mean()]
    return torch.stack(moments).nan_to_num() if moments else torch.zeros(1)
