"""An operation as its YAML declares it. Only :meth:`Operation.load` may import torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from runner.config.callables import load_callable
from runner.config.domain import Domain
from runner.config.dtypes import KINDS
from runner.config.fields import check_fields, read_fields, texts_by_name
from runner.config.formula import check_names, evaluate
from runner.config.signature import ANY, ELLIPSIS, Dimensions, Signature
from runner.config.size import BATCH, Size, parse_size, shape_text
from runner.errors import ConfigError, naming, unknown

EVERY_INPUT = "every input"  # the key of a domain that is given once for all inputs
COMPARISONS = ("values", "up_to_sign")
REQUIRED = ("name", "call", "signature")


def _domains(key: str, value: object) -> dict[str, str]:
    return texts_by_name(key, value if isinstance(value, Mapping) else {EVERY_INPUT: value})


@dataclass(frozen=True)
class Operation:
    """One file of ``conf/op``.

    Attributes:
        name: as results name it.
        call: dotted name of any importable callable.
        signature: axes of the inputs and outputs, ``"... m k, ... k n -> ... m n"``.
        flop: formula of the FLOP; blank: ``torch.utils.flop_counter`` counts them.
        bytes: formula of the bytes moved; blank: the bytes of the inputs and outputs.
        derived_dims: formulas of dimensions that follow from others.
        size: the size when the user gives none.
        dtypes: the kinds of dtype that it takes (see :data:`runner.config.dtypes.KINDS`).
        inputs: parameter names, to pass the tensors by keyword; blank: by position.
        index_inputs: inputs (named in ``inputs``) that hold int64 positions along a dimension.
        as_list: the tensors are passed as one list.
        args: constants passed before the tensors.
        kwargs: constants passed by name; ``"{k}"`` stands for a formula's value.
        tolerance: formula of the error allowed, in unit roundoffs of the dtype, relative to the
            largest element.
        differentiable: whether autograd can go through it.
        domain: the numbers that the inputs may hold, for all or by input (see
            :meth:`runner.config.domain.Domain.parse`).
        nondifferentiable_inputs: floating inputs that have no gradient, by name, such as masks.
        reference: dotted name of the callable whose values and gradients are right, which is called
            as ``call`` is, in float64 on the CPU; blank: ``call`` itself.
        compare: how its values are compared with these: values, or up_to_sign, where a vector of a
            factor may come with either sign.
        random: whether it draws random numbers, so that moments of several results are compared.
        description: one line for people.
    """

    name: str
    call: str
    signature: str
    flop: str = ""
    bytes: str = ""
    derived_dims: Mapping[str, str] = field(default_factory=dict)
    size: str = "256"
    dtypes: tuple[str, ...] = ("floating",)
    inputs: tuple[str, ...] = ()
    index_inputs: Mapping[str, str] = field(default_factory=dict)
    as_list: bool = False
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    tolerance: str = "8"
    differentiable: bool = True
    domain: Mapping[str, str] = field(default_factory=dict, metadata={"reader": _domains})
    nondifferentiable_inputs: tuple[str, ...] = ()
    reference: str = ""
    compare: str = "values"
    random: bool = False
    description: str = ""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str) -> Operation:
        """Check the fields of an op file; ConfigError names the source where one is wrong."""
        check_fields(mapping, cls, "op", source, listed="the fields are")
        missing = [key for key in REQUIRED if mapping.get(key) in (None, "", "???")]
        if missing:
            raise ConfigError(
                f"{source}: missing field {', '.join(missing)}; "
                "an operation needs name, call and signature"
            )
        with naming(source):
            operation = read_fields(cls, mapping)
            operation._check()
        return operation

    @cached_property
    def parsed(self) -> Signature:
        """The signature with its formulas."""
        return Signature.parse(self.signature, self.derived_dims)

    def bind(self, size: Size) -> Dimensions:
        """The length of each dimension; ConfigError where the operation cannot take this size."""
        with naming(f"op {self.name}, {self.signature!r}"):
            return self.parsed.bind(size)

    def size_text(self, dimensions: Dimensions) -> str:
        """The first input's shape, and each dimension that this shape alone would not give."""
        first = self.parsed.inputs[0]
        shape = dimensions.shape(first)
        try:
            plain: Mapping[str, int] = self.bind(Size(shape=shape)).lengths
        except ConfigError:  # the others are what lets it take this shape
            plain = {axis: dimensions.lengths[axis] for axis in first if axis != ELLIPSIS}
        words = [shape_text(shape)]
        if dimensions.batch and ELLIPSIS not in first:
            words.append(f"{BATCH}={shape_text(dimensions.batch)}")
        words += [f"{k}={n}" for k, n in sorted(dimensions.lengths.items()) if plain.get(k) != n]
        return " ".join(words)

    def work(self, formula: str, dimensions: Dimensions) -> int | None:
        """A count of FLOP or bytes from its formula; None where there is none."""
        return int(_not_negative(formula, dimensions.variables)) if formula else None

    def check_formulas(self, dimensions: Dimensions) -> None:
        """Evaluate each formula once; ConfigError where that cannot be done at this size."""
        with naming(f"op {self.name}"):
            self.work(self.flop, dimensions)
            self.work(self.bytes, dimensions)
            self.roundoffs(dimensions.variables)
            self.constants(dimensions)

    def roundoffs(self, lengths: Mapping[str, int]) -> float:
        """The tolerance at these lengths of the dimensions."""
        return _not_negative(self.tolerance, lengths)

    def constants(self, dimensions: Dimensions) -> tuple[list[Any], dict[str, Any]]:
        """``args`` and ``kwargs`` with each ``"{formula}"`` replaced by its value."""
        args = [_filled(value, dimensions) for value in self.args]
        return args, {name: _filled(value, dimensions) for name, value in self.kwargs.items()}

    def domain_of(self, position: int) -> Domain | None:
        """The declared domain of an input; None where none is declared."""
        name = self.inputs[position] if self.inputs else str(position)  # a case has no domains
        text = self.domain.get(name, self.domain.get(EVERY_INPUT))
        return Domain.parse(text) if text is not None else None

    @property
    def package(self) -> str:
        """What is imported to have the callable."""
        return self.call.partition(".")[0]

    def load(self) -> Callable[..., Any]:
        """Import the callable; ConfigError where that cannot be done, or it cannot be called."""
        return load_callable(self.call, f"op {self.name}: call")

    def load_reference(self) -> Callable[..., Any] | None:
        """Import ``reference``, None where there is none; ConfigError as :meth:`load`.

        One that does not take the arguments of ``call`` is an error too, where it says what it
        takes: a check that fails later would only leave the values unchecked.
        """
        if not self.reference:
            return None
        where = f"op {self.name}: reference"
        function = load_callable(self.reference, where)
        tensors: list[Any] = [None] * len(self.parsed.inputs)
        named = dict.fromkeys(self.inputs if not self.as_list else ())
        given = [tensors] if self.as_list else tensors[len(named) :]
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # functions written in C may not say
            return function
        try:
            signature.bind(*self.args, *given, **named, **self.kwargs)
        except TypeError as error:
            takes = f"{self.reference}{signature} cannot be called as {self.call} is: {error}"
            raise ConfigError(
                f"{where}: {takes}; it gets the same inputs, args and kwargs"
            ) from None
        return function

    def _check(self) -> None:
        """Check what the fields mean together."""
        signature = self.parsed
        tensors = signature.inputs + signature.outputs
        axes = {*chain.from_iterable(tensors), *signature.formulas} - {ELLIPSIS, ANY}
        known = axes | {BATCH} if ELLIPSIS in signature.of_inputs else axes
        formulas = {"flop": self.flop, "bytes": self.bytes, "tolerance": self.tolerance}
        for value in _texts([self.args, self.kwargs]):
            if _is_formula(value):
                formulas[f"constant {value}"] = value[1:-1]
        for where, formula in formulas.items():
            if formula:
                check_names(f"{where}: {formula}", formula, known)

        allowed = f"allowed: {', '.join(KINDS)}"
        if not self.dtypes:
            raise ConfigError(f"dtypes: none given; {allowed}")
        no_kinds = [kind for kind in self.dtypes if kind not in KINDS]
        if no_kinds:
            raise ConfigError(f"dtypes: {', '.join(no_kinds)} is no kind of dtype; {allowed}")

        if self.compare not in COMPARISONS:
            raise unknown(f"compare: {self.compare!r} is no comparison", self.compare, COMPARISONS)
        self._check_inputs(len(signature.inputs), axes)
        signature.bind(parse_size(self.size))

    def _check_inputs(self, count: int, axes: set[str]) -> None:
        """Check what is said of single inputs, of which the signature has ``count``."""
        if self.inputs and len(self.inputs) != count:
            raise ConfigError(
                f"inputs: {len(self.inputs)} names for the signature's {count} inputs"
            )
        for name, axis in self.index_inputs.items():
            if name not in self.inputs or axis not in axes:
                inputs = ", ".join(self.inputs) or "give inputs: first"
                raise ConfigError(
                    f"index_inputs: {name}: {axis}: must be one of inputs ({inputs}) "
                    f"and a dimension ({', '.join(sorted(axes))})"
                )
        names = self.inputs or tuple(map(str, range(count)))
        unknown = {
            "domain": set(self.domain) - {*names, EVERY_INPUT},
            "nondifferentiable_inputs": set(self.nondifferentiable_inputs) - set(names),
        }
        for key, inputs in unknown.items():
            if inputs:
                raise ConfigError(
                    f"{key}: no input {', '.join(sorted(inputs))}; "
                    f"the inputs are {', '.join(names)}"
                )
        for position in range(len(names)):
            self.domain_of(position)


def _not_negative(formula: str, lengths: Mapping[str, int]) -> float:
    value = evaluate(formula, lengths)
    if value < 0:
        raise ConfigError(f"formula {formula!r} is {value:g} for {dict(lengths)}, below 0")
    return value


def _is_formula(text: str) -> bool:
    return text.startswith("{") and text.endswith("}")


def _filled(value: object, dimensions: Dimensions) -> object:
    match value:
        case str() if _is_formula(value):
            number = evaluate(value[1:-1], dimensions.variables)
            return int(number) if number == int(number) else number
        case dict():
            return {key: _filled(item, dimensions) for key, item in value.items()}
        case list():
            return [_filled(item, dimensions) for item in value]
    return value


def _texts(value: object) -> Iterator[str]:
    """Every string inside nested constants."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | Sequence):
        items = value.values() if isinstance(value, Mapping) else value
        yield from chain.from_iterable(map(_texts, items))
