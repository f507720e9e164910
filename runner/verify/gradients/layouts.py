"""The same numbers in other memory layouts."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def transposed(tensor: Tensor) -> Tensor | None:
    """Dimensions in the reverse order in memory; None where there are not two of any length."""
    if sum(n > 1 for n in tensor.shape) < 2:
        return None
    order = list(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().permute(order)


def spaced(tensor: Tensor) -> Tensor | None:
    """Every second element of a larger storage, the first of which is not at its beginning."""
    if not tensor.dim():
        return None
    gap = float("nan") if tensor.is_floating_point() else 0
    storage = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), gap)
    return storage[..., 1::2].copy_(tensor)


def expanded(tensor: Tensor) -> Tensor | None:
    """One row for all, without memory of their own (stride 0); other numbers than the tensor's."""
    if not tensor.dim() or not tensor.numel():
        return None
    return tensor[:1].expand(tensor.shape)


def constant(tensor: Tensor) -> Tensor | None:
    """One number for all, as the gradient of a sum is; other numbers than the tensor's."""
    if not tensor.dim() or not tensor.numel():
        return None
    return tensor.flatten()[0].expand(tensor.shape)


def conjugated(tensor: Tensor) -> Tensor | None:
    """A complex tensor of which memory holds the conjugate."""
    return tensor.conj().resolve_conj().conj() if tensor.is_complex() else None


Layout = Callable[[Tensor], Tensor | None]

LAYOUTS: dict[str, Layout] = {
    "transposed": transposed,
    "spaced": spaced,
    "expanded": expanded,
    "constant": constant,
    "conjugated": conjugated,
}
"""Each gives a tensor of the same shape and dtype; None where this one cannot have the layout."""
