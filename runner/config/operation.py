"""An operation as its YAML declares it. Nothing here imports torch, except :meth:`Operation.load`, for the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import chain
from typing import Any

from runner.config.callables import load_callable
from runner.config.domain import Domain
from runner.config.dtypes import KINDS
from runner.config.formula import evaluate, names_in
from runner.config.renamed import check_fields
from runner.config.signature import ELLIPSIS, Dimensions, Signature
from runner.config.size import BATCH, Size, parse_size, shape_text
from runner.errors import ConfigError

EVERY_INPUT = "every input"  # the key of a domain that is given once for all inputs


@dataclass(frozen=True)
class Operation:
    """One file of ``conf/op``.

    Attributes:
        name: as results name it.
        call: dotted name of any importable callable.
        signature: axes of the inputs and outputs, ``"... m k, ... k n -> ... m n"``.
        flop: formula of the floating-point operations; blank: ``torch.utils.flop_counter`` counts them.
        bytes: formula of the bytes moved; blank: the bytes of the inputs and outputs.
        derived_dims: formulas of dimensions that follow from others.
        size: the size when the user gives none.
        dtypes: the kinds of dtype that it takes (see :data:`runner.config.dtypes.KINDS`).
        inputs: parameter names, to pass the tensors by keyword; blank: by position.
        index_inputs: inputs (named in ``inputs``) that hold int64 positions along a dimension.
        as_list: the tensors are passed as one list.
        args: constants passed before the tensors.
        kwargs: constants passed by name; ``"{k}"`` stands for a formula's value.
        tolerance: formula of the error allowed, in unit roundoffs of the dtype, relative to the largest element.
        differentiable: whether autograd can go through it.
        domain: the numbers that the inputs may hold, for all or by input (:meth:`runner.config.domain.Domain.parse`).
        nondifferentiable_inputs: floating inputs that have no gradient, by name, such as masks.
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
    domain: Mapping[str, str] = field(default_factory=dict)
    nondifferentiable_inputs: tuple[str, ...] = ()
    description: str = ""

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], source: str) -> Operation:
        """Check a mapping read from YAML.

        Args:
            given: the fields.
            source: where they come from, for messages.

        Raises:
            ConfigError: a field is missing, misspelt, of the wrong type, or a formula names an unknown dimension.
        """
        check_fields(given, [f.name for f in fields(cls)], "op", source, listed="the fields are")
        missing = [
            key for key in ("name", "call", "signature") if given.get(key) in (None, "", "???")
        ]
        if missing:
            raise ConfigError(
                f"{source}: missing field {', '.join(missing)}; an operation needs name, call and signature"
            )
        try:
            operation = cls(
                **{key: _READ[key](key, value) for key, value in given.items() if value is not None}
            )
            operation._check()
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
        return operation

    @cached_property
    def parsed(self) -> Signature:
        """The signature with its formulas."""
        return Signature.parse(self.signature, self.derived_dims)

    def bind(self, size: Size) -> Dimensions:
        """The length of each dimension at ``size``.

        Raises:
            ConfigError: the operation cannot take this size.
        """
        try:
            return self.parsed.bind(size)
        except ConfigError as error:
            raise ConfigError(f"op {self.name}, {self.signature!r}: {error}") from error

    def size_text(self, dimensions: Dimensions) -> str:
        """The first input's shape, then the dimensions that this shape alone would have made different."""
        first = self.parsed.inputs[0]
        shape = dimensions.shape(first)
        try:
            plain: Mapping[str, int] = self.bind(Size(shape=shape)).lengths
        except ConfigError:  # the others are what lets it take this shape
            plain = {axis: dimensions.lengths[axis] for axis in first if axis != ELLIPSIS}
        named = [f"{k}={n}" for k, n in sorted(dimensions.lengths.items()) if plain.get(k) != n]
        batch = (
            [f"{BATCH}={shape_text(dimensions.batch)}"]
            if dimensions.batch and ELLIPSIS not in first
            else []
        )
        return " ".join([shape_text(shape), *batch, *named])

    def work(self, formula: str, dimensions: Dimensions) -> int | None:
        """A count of FLOP or bytes from its formula; None where there is none."""
        return int(evaluate(formula, dimensions.variables)) if formula else None

    def check_formulas(self, dimensions: Dimensions) -> None:
        """Evaluate every formula once.

        Raises:
            ConfigError: one cannot be evaluated at this size.
        """
        try:
            self.work(self.flop, dimensions)
            self.work(self.bytes, dimensions)
            self.roundoffs(dimensions.variables)
            self.constants(dimensions)
        except ConfigError as error:
            raise ConfigError(f"op {self.name}: {error}") from error

    def roundoffs(self, lengths: Mapping[str, int]) -> float:
        """The tolerance at these lengths of the dimensions."""
        return evaluate(self.tolerance, lengths)

    def constants(self, dimensions: Dimensions) -> tuple[list[Any], dict[str, Any]]:
        """``args`` and ``kwargs`` with each ``"{formula}"`` replaced by its value."""
        args: list[Any] = _filled(list(self.args), dimensions)
        kwargs: dict[str, Any] = _filled(dict(self.kwargs), dimensions)
        return args, kwargs

    def domain_of(self, position: int) -> Domain | None:
        """The declared domain of an input; None where none is declared."""
        name = self.inputs[position] if self.inputs else str(position)  # a case has no domains
        text = self.domain.get(name, self.domain.get(EVERY_INPUT))
        return Domain.parse(text) if text is not None else None

    def load(self) -> Callable[..., Any]:
        """Import the callable.

        Raises:
            ConfigError: there is no such module or attribute, or it cannot be called.
        """
        return load_callable(self.call, f"op {self.name}: call")

    def _check(self) -> None:
        signature = self.parsed
        known = (
            set(chain.from_iterable(signature.inputs + signature.outputs))
            | signature.formulas.keys()
        )
        known = known - {"..."} | (
            {BATCH} if any("..." in axes for axes in signature.inputs) else set()
        )
        formulas = {"flop": self.flop, "bytes": self.bytes, "tolerance": self.tolerance}
        for value in _texts([self.args, self.kwargs]):
            if value.startswith("{") and value.endswith("}"):
                formulas[f"constant {value}"] = value[1:-1]
        for where, formula in formulas.items():
            unknown = names_in(formula) - known if formula else set()
            if unknown:
                raise ConfigError(
                    f"{where}: {formula}: unknown dimension {', '.join(sorted(unknown))}; "
                    f"known here: {', '.join(sorted(known))}"
                )
        if not self.dtypes:
            raise ConfigError(f"dtypes: none given; allowed: {', '.join(KINDS)}")
        bad_kinds = [kind for kind in self.dtypes if kind not in KINDS]
        if bad_kinds:
            raise ConfigError(
                f"dtypes: {', '.join(bad_kinds)} is no kind of dtype; allowed: {', '.join(KINDS)}"
            )
        if self.inputs and len(self.inputs) != len(signature.inputs):
            raise ConfigError(
                f"inputs: {len(self.inputs)} names for the signature's {len(signature.inputs)} inputs"
            )
        for name, axis in self.index_inputs.items():
            if name not in self.inputs or axis not in known - {BATCH}:
                inputs = ", ".join(self.inputs) or "give inputs: first"
                raise ConfigError(
                    f"index_inputs: {name}: {axis}: must be one of inputs ({inputs}) "
                    f"and a dimension ({', '.join(sorted(known - {BATCH}))})"
                )
        names = self.inputs or tuple(map(str, range(len(signature.inputs))))
        for field_name, given in (
            ("domain", self.domain),
            ("nondifferentiable_inputs", self.nondifferentiable_inputs),
        ):
            unknown = set(given) - {*names, *([EVERY_INPUT] if field_name == "domain" else [])}
            if unknown:
                raise ConfigError(
                    f"{field_name}: no input {', '.join(sorted(unknown))}; the inputs are {', '.join(names)}"
                )
        for position in range(len(names)):
            self.domain_of(position)
        self.parsed.bind(parse_size(self.size))


def _filled(value: Any, dimensions: Dimensions) -> Any:
    match value:
        case str() if value.startswith("{") and value.endswith("}"):
            number = evaluate(value[1:-1], dimensions.variables)
            return int(number) if number == int(number) else number
        case dict():
            return {key: _filled(item, dimensions) for key, item in value.items()}
        case list():
            return [_filled(item, dimensions) for item in value]
    return value


def _texts(value: Any) -> list[str]:
    """Every string inside nested constants."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return list(chain.from_iterable(map(_texts, value))) if isinstance(value, Sequence) else []


def _text(key: str, value: Any) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise ConfigError(f"{key}: {value!r} is not text")


def _flag(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{key}: {value!r} is neither true nor false")


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    raise ConfigError(f"{key}: {value!r} is not a mapping")


def _texts_by_name(key: str, value: Any) -> dict[str, str]:
    return {name: _text(f"{key}.{name}", item) for name, item in _mapping(key, value).items()}


def _domains(key: str, value: Any) -> dict[str, str]:
    return _texts_by_name(key, value if isinstance(value, Mapping) else {EVERY_INPUT: value})


def _list(key: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    raise ConfigError(f"{key}: {value!r} is not a list")


def _names(key: str, value: Any) -> tuple[str, ...]:
    return (
        (value,)
        if isinstance(value, str)
        else tuple(_text(key, item) for item in _list(key, value))
    )


_READ: dict[str, Callable[[str, Any], Any]] = {
    "name": _text,
    "call": _text,
    "signature": _text,
    "flop": _text,
    "bytes": _text,
    "derived_dims": _texts_by_name,
    "size": _text,
    "dtypes": _names,
    "inputs": _names,
    "index_inputs": _texts_by_name,
    "as_list": _flag,
    "args": _list,
    "kwargs": _mapping,
    "tolerance": _text,
    "differentiable": _flag,
    "domain": _domains,
    "nondifferentiable_inputs": _names,
    "description": _text,
}
"""How each field is read from YAML."""
