"""An operation as its YAML declares it. Only :meth:`Operation.load` may import torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from typing import Any

from runner.config.axes import LAYOUTS
from runner.config.callables import load_callable
from runner.config.domain import Domain
from runner.config.dtypes import KIND_OF, KINDS
from runner.config.fields import check_fields, read_fields, text, texts_by_name
from runner.config.formula import check_names, evaluate
from runner.config.implementation import DEFAULT, Implementation, implementations_by_name
from runner.config.signature import ANY, ELLIPSIS, Dimensions, Signature
from runner.config.size import BATCH, Size, parse_size, shape_text
from runner.config.structure import STRUCTURES
from runner.errors import ConfigError, naming, unknown

EVERY_INPUT = "every input"  # the key of a domain that is given once for all inputs
OF_CALL = ("{dtype}", "{device}")  # constants that are the call's own
COMPARISONS = ("values", "up_to_sign")
ROUNDING = "rounding"  # a tolerance that is found out by trying what roundoffs do
COMPLEX = "complex"  # in a formula of FLOP: 1 for complex numbers, 0 for others
REQUIRED = ("name", "call", "signature")

Constants = tuple[list[Any], list[Any], dict[str, Any]]
"""What a call gets before the tensors, after them, and by name."""


def _domains(key: str, value: object) -> dict[str, str]:
    return texts_by_name(key, value if isinstance(value, Mapping) else {EVERY_INPUT: value})


def _size(key: str, value: object) -> object:
    return value if isinstance(value, Mapping | list | tuple) else text(key, value)


@dataclass(frozen=True)
class Operation:
    """One file of ``conf/op``."""

    name: str  # the name in results
    call: str  # dotted name of any importable callable
    signature: str  # axes of the inputs and outputs, ``"... m k, ... k n -> ... m n"``
    # formula of the FLOP, in which ``complex`` is 1 for complex numbers and 0 for others; blank:
    # ``torch.utils.flop_counter`` counts them
    flop: str = ""
    bytes: str = ""  # formula of the bytes moved; blank: the bytes of the inputs and outputs
    # formulas of dimensions that follow from others
    derived_dims: Mapping[str, str] = field(default_factory=dict)
    # the size when the user gives none, as text or as a mapping of dimensions
    size: Any = field(default="256", metadata={"reader": _size})
    # the kinds of dtype that it takes (:data:`runner.config.dtypes.KINDS`), or single dtypes, such
    # as int8
    dtypes: tuple[str, ...] = ("floating",)
    # parameter names, to pass the tensors by keyword; blank: by position
    inputs: tuple[str, ...] = ()
    # inputs (named in ``inputs``) that hold int64 positions along a dimension
    index_inputs: Mapping[str, str] = field(default_factory=dict)
    # dtypes of inputs, by name or position, that are not the cell's
    input_dtypes: Mapping[str, str] = field(default_factory=dict)
    # layouts of inputs, by name or position, whatever the cell's ``layout``
    input_layouts: Mapping[str, str] = field(default_factory=dict)
    # strides of inputs, by name or position, in elements
    input_strides: Mapping[str, Any] = field(default_factory=dict)
    # the property that an input has, by name or position; one of
    # :data:`runner.config.structure.STRUCTURES`
    structure: Mapping[str, str] = field(default_factory=dict)
    # dotted name of a function that makes the inputs from the dimensions (by name), the dtype, the
    # device and a generator; blank: they are drawn. For the signature ``* -> *`` it makes the
    # call's arguments, a list and a mapping, which may hold tensors anywhere; the gradients of
    # those that require one are checked
    inputs_from: str = ""
    # dotted name of a function that turns the inputs into the call's arguments: one, a list, or a
    # mapping by name. It runs outside the clock
    prepare: str = ""
    # inputs that a call changes; they are put back before each call, outside the clock
    restore: tuple[str, ...] = ()
    as_list: bool = False  # the tensors are passed as one list
    # constants passed before the tensors; those of a class of modules make its instance
    args: tuple[Any, ...] = ()
    args_after: tuple[Any, ...] = ()  # constants passed after them
    # constants passed by name; ``"{k}"`` stands for a formula's value, ``"{dtype}"`` and
    # ``"{device}"`` for the call's own, ``"torch.int8"`` and the like for themselves. Among all of
    # these ``"{x}"`` is the input x, which is passed there and nowhere else
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    # what is done with the model that ``call`` makes, one of
    # :data:`runner.config.workload.call.PASSES`; blank: ``call`` makes no model
    passes: str = ""
    # formula of the error allowed, in unit roundoffs of the dtype, relative to the largest element;
    # or ``rounding``: as much as a roundoff at each step moves the result
    tolerance: str = "8"
    differentiable: bool = True  # whether autograd can go through it
    # the numbers that the inputs may hold, for all or by input: one of
    # :data:`runner.config.domain.NAMED`, or an interval, ``"[-1, 1]"``, ``"(0, 10]"``
    domain: Mapping[str, str] = field(default_factory=dict, metadata={"reader": _domains})
    # floating inputs that have no gradient, by name, such as masks
    nondifferentiable_inputs: tuple[str, ...] = ()
    # dotted name of the function whose gradient it is meant to have, such as ``torch.clone`` for a
    # rounding that lets gradients pass; blank: its own
    gradient_of: str = ""
    # further columns of ``results.csv``, by name: each the dotted name of a function ``f(row,
    # output)`` that returns a number or text
    columns: Mapping[str, str] = field(default_factory=dict)
    # dotted name of the callable whose values and gradients are right, which is called as ``call``
    # is, in float64 on the CPU; blank: ``call`` itself
    reference: str = ""
    # other callables for the same, by the names that ``impl`` has for them
    implementations: Mapping[str, Implementation] = field(
        default_factory=dict, metadata={"reader": implementations_by_name}
    )
    # how its values are compared with the reference's: values, or up_to_sign (each vector of a
    # factor, as of an SVD, may have either sign; complex eigenvalues, any order)
    compare: str = "values"
    # whether it draws random numbers; then moments of several results are compared
    random: bool = False
    description: str = ""  # one line for people

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str) -> Operation:
        """Check the fields of an op file; ConfigError names the source where one is wrong."""
        check_fields(mapping, cls, "op", source)
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

    def implemented(self, impl: str) -> Operation:
        """The operation by one of its implementations; as it is where it has none of that name."""
        if impl not in (DEFAULT, *self.implementations):
            return self
        own, alone = self.implementations.get(impl), replace(self, implementations={})
        if own is None:
            return alone
        given: dict[str, Any] = {f.name: getattr(alone, f.name) for f in fields(alone)}
        given |= {"call": own.call, "kwargs": {**self.kwargs, **own.kwargs}}
        given |= {"prepare": own.prepare or self.prepare, "reference": self.reference or self.call}
        given |= {"compile": own.compile, "dynamic": own.dynamic}
        return Implemented(**given, declared_as=alone, impl=impl)

    @property
    def declared(self) -> Operation:
        """The operation as its reference is called."""
        return self

    @property
    def called(self) -> str:
        """The field of the file that names the callable."""
        return "call"

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
        first = self.parsed.sized
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

    def work(self, formula: str, dimensions: Dimensions, of_complex: bool = False) -> int | None:
        """A count of FLOP or bytes from its formula; None where there is none."""
        variables = {COMPLEX: int(of_complex), **dimensions.variables}
        return int(_not_negative(formula, variables)) if formula else None

    def check_formulas(self, dimensions: Dimensions) -> None:
        """Evaluate each formula once; ConfigError where that cannot be done at this size."""
        with naming(f"op {self.name}"):
            self.work(self.flop, dimensions)
            self.work(self.bytes, dimensions)
            self.roundoffs(dimensions.variables)
            self.constants(dimensions)
            for name, layout in self.input_layouts.items():
                shape = dimensions.shape(self.parsed.inputs[self.names.index(name)])
                if len(shape) not in LAYOUTS[layout]:
                    problem = f"input_layouts: {name}: {layout}: its shape is {shape_text(shape)}"
                    raise ConfigError(f"{problem}, of {len(shape)} dimensions")

    def roundoffs(self, lengths: Mapping[str, int]) -> float:
        """The tolerance at these lengths of the dimensions; the usual one where it is found out."""
        formula = type(self).tolerance if self.tolerance == ROUNDING else self.tolerance
        return _not_negative(formula, lengths)

    def constants(self, dimensions: Dimensions) -> Constants:
        """``args``, ``args_after`` and ``kwargs`` with each ``"{formula}"`` as its value."""
        given = [[*self.args], [*self.args_after], dict(self.kwargs)]
        filled: Any = _filled(given, dimensions, (*OF_CALL, *self.placed))
        return tuple(filled)  # as they were put in

    @cached_property
    def placed(self) -> dict[str, str]:
        """The inputs that stand among the constants, by what stands there; a dimension is none."""
        axes = {*chain.from_iterable(self.parsed.inputs), *self.derived_dims}
        words = {f"{{{name}}}": name for name in self.inputs if name not in axes}
        found = set(texts_in([self.args, self.args_after, self.kwargs]))
        return {word: name for word, name in words.items() if word in found}

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names, or their positions."""
        return self.inputs or tuple(map(str, range(len(self.parsed.inputs))))

    @property
    def has_gradient(self) -> bool:
        """Whether a gradient with respect to what is drawn can be had."""
        has_inputs = bool(self.parsed.inputs) or self.parsed.is_open
        gets_inputs = has_inputs and not (self.prepare or self.restore)
        return self.differentiable and gets_inputs

    def domain_of(self, position: int) -> Domain | None:
        """The declared domain of an input; None where none is declared."""
        name = self.names[position] if position < len(self.names) else ""  # of a case, or a module
        declared = self.domain.get(name, self.domain.get(EVERY_INPUT))
        return Domain.parse(declared) if declared is not None else None

    @property
    def package(self) -> str:
        """What is imported to have the callable."""
        return self.call.partition(".")[0]

    def load(self) -> Callable[..., Any]:
        """Import the callable; ConfigError where that cannot be done, or it cannot be called.

        What else the file names is imported too.
        """
        for field_name in ("inputs_from", "prepare", "gradient_of"):
            self.loaded(field_name)
        for name in self.columns:
            self.column(name)
        return load_callable(self.call, f"op {self.name}: {self.called}")

    def column(self, name: str) -> Callable[..., Any]:
        """The function of a column of one's own."""
        return load_callable(self.columns[name], f"op {self.name}: columns.{name}")

    def loaded(self, key: str) -> Callable[..., Any] | None:
        """The callable that a field names; None where it is blank."""
        dotted = getattr(self, key)
        return load_callable(dotted, f"op {self.name}: {key}") if dotted else None

    def load_reference(self) -> Callable[..., Any] | None:
        """Import ``reference``, None where there is none; ConfigError as :meth:`load`.

        One that does not take the arguments of ``call`` is an error too, where it says what it
        takes: a check that fails later would only leave the values unchecked.
        """
        if not self.reference:
            return None
        where = f"op {self.name}: reference"
        function = load_callable(self.reference, where)
        self.declared.check_takes(function, f"{where}: {self.reference}")
        return function

    def check_takes(self, function: Callable[..., Any], who: str) -> None:
        """Refuse a function that says that it does not take the arguments of ``call``."""
        if self.prepare or isinstance(function, type):  # a class says how it is made
            return
        tensors: list[Any] = [None] * (len(self.parsed.inputs) - len(self.placed))
        others = [name for name in self.inputs if name not in self.placed.values()]
        named = dict.fromkeys(others if not self.as_list else ())
        given = [tensors] if self.as_list else tensors[len(named) :]
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # functions written in C may not say
            return
        try:
            signature.bind(*self.args, *given, *self.args_after, **named, **self.kwargs)
        except TypeError as error:
            takes = f"{who}{signature} cannot be called as {self.declared.call} is: {error}"
            raise ConfigError(f"{takes}; it gets the same inputs, args and kwargs") from None

    def _check(self) -> None:
        """Check what the fields mean together."""
        signature = self.parsed
        tensors = signature.inputs + signature.outputs
        axes = {*chain.from_iterable(tensors), *signature.of_inputs, *signature.formulas}
        axes -= {ELLIPSIS, ANY}
        known = axes | {BATCH} if ELLIPSIS in signature.of_inputs else axes
        formulas = {"flop": self.flop, "bytes": self.bytes}
        formulas |= {"tolerance": self.tolerance} if self.tolerance != ROUNDING else {}
        for value in texts_in([self.args, self.args_after, self.kwargs]):
            if _is_formula(value) and value not in (*OF_CALL, *self.placed):
                formulas[f"constant {value}"] = value[1:-1]
        for where, formula in formulas.items():
            if formula:
                names = known | {COMPLEX} if where == "flop" else known
                check_names(f"{where}: {formula}", formula, names)

        allowed = f"allowed: {', '.join(KINDS)}, or a dtype such as int8"
        if not self.dtypes:
            raise ConfigError(f"dtypes: none given; {allowed}")
        no_kinds = [kind for kind in self.dtypes if kind not in (*KINDS, *KIND_OF)]
        if no_kinds:
            raise ConfigError(f"dtypes: {', '.join(no_kinds)} is no kind of dtype; {allowed}")

        if self.compare not in COMPARISONS:
            raise unknown(f"compare: {self.compare!r} is no comparison", self.compare, COMPARISONS)
        if signature.is_open and (self.prepare or not self.inputs_from):
            made = "inputs_from: makes what the call gets"
            raise ConfigError(f"signature {self.signature!r}: {made}; give it, and no prepare:")
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
        names = self.names
        for key in BY_INPUT:
            others = set(getattr(self, key)) - {*names, *([EVERY_INPUT] if key == "domain" else [])}
            if others:
                raise ConfigError(
                    f"{key}: no input {', '.join(sorted(others))}; "
                    f"the inputs are {', '.join(names) or 'none'}"
                )
        for key, allowed in BY_INPUT.items():
            for name, value in getattr(self, key).items() if allowed else ():
                if value not in allowed:
                    raise unknown(f"{key}: {name}: {value} is unknown", value, allowed)
        for position in range(len(names)):
            self.domain_of(position)


@dataclass(frozen=True)
class Implemented(Operation):
    """An operation by an implementation of its own: what is called, and how, is that one's."""

    impl: str = ""  # its name
    # compile, dynamic: how it is compiled, whatever the axes say
    compile: str = "off"
    dynamic: bool = False
    # the operation as the file has it, which ``reference`` is called as
    declared_as: Operation = field(kw_only=True)

    @property
    def declared(self) -> Operation:
        """The operation as its reference is called."""
        return self.declared_as

    @property
    def called(self) -> str:
        """The field of the file that names the callable."""
        return f"implementations.{self.impl}"

    def load(self) -> Callable[..., Any]:
        """Import the callable; ConfigError as for any, or where it says that it takes others."""
        function = super().load()
        self.check_takes(function, f"op {self.name}: {self.called}: {self.call}")
        return function


BY_INPUT: Mapping[str, Iterable[str]] = {
    "domain": (),
    "nondifferentiable_inputs": (),
    "restore": (),
    "input_dtypes": KIND_OF,
    "input_layouts": LAYOUTS,
    "input_strides": (),
    "structure": STRUCTURES,
}
"""The fields that name inputs, and what each may say of one, where that is a word of a list."""


def _not_negative(formula: str, lengths: Mapping[str, int]) -> float:
    value = evaluate(formula, lengths)
    if value < 0:
        raise ConfigError(f"formula {formula!r} is {value:g} for {dict(lengths)}, below 0")
    return value


def _is_formula(text: str) -> bool:
    return text.startswith("{") and text.endswith("}")


def _filled(value: object, dimensions: Dimensions, but: Sequence[str]) -> object:
    """Nested constants with the value of each formula, ``but`` for what is none."""
    match value:
        case str() if _is_formula(value) and value not in but:
            number = evaluate(value[1:-1], dimensions.variables)
            return int(number) if number == int(number) else number
        case dict():
            return {key: _filled(item, dimensions, but) for key, item in value.items()}
        case list():
            return [_filled(item, dimensions, but) for item in value]
    return value


def texts_in(value: object) -> Iterator[str]:
    """Every string inside nested constants."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | Sequence):
        items = value.values() if isinstance(value, Mapping) else value
        yield from chain.from_iterable(map(texts_in, items))
