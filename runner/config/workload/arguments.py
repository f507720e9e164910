"""The fields of an operation that makes a call: its signature, and where its tensors stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from runner.config.domain import Domain
from runner.config.dtypes import KIND_OF
from runner.config.fields import check_fields, read_fields
from runner.config.signature import ANY
from runner.config.workload.call import Call
from runner.errors import ConfigError, naming, one_line, unknown


def _lengths(key: str, value: object) -> tuple[int, ...]:
    if isinstance(value, list | tuple) and all(type(n) is int and n >= 0 for n in value):
        return tuple(value)
    raise ConfigError(f"{key}: {one_line(value, 40)} is no list of lengths, such as [64, 128]")


def _limit(key: str, value: object) -> int:
    if type(value) is int and value > 0:
        return value
    raise ConfigError(f"{key}: {one_line(value, 40)} is no whole number of 1 or more")


@dataclass(frozen=True)
class Tensor:
    """A tensor among the arguments of a call."""

    # its lengths along each dimension
    shape: tuple[int, ...] = field(metadata={"reader": _lengths})
    dtype: str = ""  # its dtype; blank: the model's
    # elements from one to the next along each dimension; blank: contiguous
    stride: tuple[int, ...] | None = field(default=None, metadata={"reader": _lengths})
    # integers are drawn from 0 to below this, as positions in a table
    below: int | None = field(default=None, metadata={"reader": _limit})
    domain: str = ""  # the numbers that it may hold, as an operation's
    written: bool = False  # whether the call changes it; it is put back before each one

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Tensor:
        """Check the fields; ConfigError where one is wrong."""
        check_fields(values, cls, "tensor", "a tensor")
        tensor = read_fields(cls, values)
        if tensor.dtype and tensor.dtype not in KIND_OF:
            raise unknown(f"dtype: {tensor.dtype} is unknown", tensor.dtype, KIND_OF)
        if tensor.stride is not None and len(tensor.stride) != len(tensor.shape):
            raise ConfigError(f"stride: {tensor.stride} is not of the shape {tensor.shape}")
        if tensor.domain:
            Domain.parse(tensor.domain)
        return tensor


def operation_fields(call: Call) -> dict[str, Any]:
    """What an op file would say of the call; ConfigError where an argument is wrong.

    Dimensions of one length have one name, so that a check may cut all of them down together.
    """
    name = f"{call.workload}.{call.name}" if call.workload else call.name or call.function
    if call.reason:  # it has a row that says so, and is never called
        return {"name": name, "call": "torch.clone", "signature": "n -> n", "size": 1}
    with naming(call.function):
        found: list[Tensor] = []
        args, kwargs = _placed(call.args, found), _placed(call.kwargs, found)
        outputs = [_lengths("outputs", shape) for shape in call.outputs]
    tensors = {f"t{position}": tensor for position, tensor in enumerate(found)}
    empty = [tensor.shape for tensor in found if 0 in tensor.shape]
    if empty:
        raise ConfigError(f"{call.function}: a tensor of {empty[0]} is empty; leave the call out")

    # the first input is what the size is shown of, and has to have a dimension
    largest = [-math.prod(t.shape) if t.shape else 0 for t in found]
    names = [name for _, name in sorted(zip(largest, tensors, strict=True))]
    shapes = [tensors[name].shape for name in names]
    lengths = sorted(set(chain.from_iterable(shapes or outputs[:1])) - {0})
    given = {f"n{length}": length for length in lengths}
    if not given:
        raise ConfigError(f"{call.function}: no tensor has a dimension; leave the call out")
    limits = {name: f"n{t.below}" for name, t in tensors.items() if t.below}
    others = {f"n{length}": str(length) for length in chain.from_iterable(outputs) if length}
    others |= {axis: axis.removeprefix("n") for axis in limits.values()}
    derived = {axis: length for axis, length in others.items() if axis not in given}
    kinds = {KIND_OF[call.dtype]}
    return {
        "name": name,
        "call": call.function,
        "signature": f"{_axes(shapes)} -> {_axes(outputs) if outputs else 'none'}",
        "derived_dims": {**derived, "k": str(_terms(shapes, outputs))},
        "size": given,
        "dtypes": sorted(kinds),
        "inputs": names,
        "input_dtypes": _given(tensors, "dtype", call.dtype),
        "input_strides": _given(tensors, "stride"),
        "index_inputs": limits,
        "domain": _given(tensors, "domain"),
        "restore": [name for name, tensor in tensors.items() if tensor.written],
        "args": args,
        "kwargs": kwargs,
        "passes": call.passes,
        "tolerance": call.tolerance or ("32 * sqrt(k)" if call.passes else "16 * sqrt(k)"),
        "differentiable": call.differentiable and not call.passes,
        "random": call.random,
        "implementations": dict(call.implementations),
    }


def _placed(value: object, found: list[Tensor]) -> object:
    """Nested arguments with the name of an input in place of each tensor, which is ``found``."""
    match value:
        case {"shape": _}:
            found.append(Tensor.of(value))  # type: ignore[arg-type]  # keys are text
            return f"{{t{len(found) - 1}}}"
        case Mapping():
            return {str(key): _placed(item, found) for key, item in value.items()}
        case list() | tuple():
            return [_placed(item, found) for item in value]
    return value


def _axes(shapes: Sequence[Sequence[int]]) -> str:
    """Tensors of a signature; an empty result has a length that no dimension can have."""
    return ", ".join(" ".join(f"n{n}" if n else ANY for n in shape) for shape in shapes)


def _given(tensors: Mapping[str, Tensor], key: str, usual: object = None) -> dict[str, Any]:
    """A field of the tensors that have it, by their names."""
    values = {name: getattr(tensor, key) for name, tensor in tensors.items()}
    return {name: value for name, value in values.items() if value and value != usual}


def _terms(inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> int:
    """How many terms an element of an output is the sum of, at most about.

    A sum has as many as its input has for each of them, and a product of m x k and k x n has the
    root of mk * kn / mn. Elementwise functions have 1, and are given more.
    """
    sizes = sorted(map(math.prod, inputs), reverse=True)
    produced = sorted(math.prod(shape) for shape in outputs if 0 not in shape) or [1]
    if not sizes:
        return 1
    of_product = math.sqrt(math.prod(sizes[:2]) / produced[-1]) if len(sizes) > 1 else 1
    return max(1, math.ceil(sizes[0] / produced[0]), math.ceil(of_product))
