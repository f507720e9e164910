"""Cases of tensor code: a line, and what its result has to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from runner.config.cases import snippet
from runner.config.cases.base import Case
from runner.config.cases.nested import check_nested, is_number, shape_of
from runner.config.dtypes import KIND_OF
from runner.config.renamed import refusal
from runner.config.size import shape_text
from runner.errors import ConfigError, suggestion

EXPECTATIONS = ("values", "shape", "dtype", "range", "finite", "reproducible", "aliases")
NOTHING = "nothing"  # in aliases: the result has memory of its own


@dataclass(frozen=True)
class TensorCase(Case):
    """A line of tensor code, and what its result has to be.

    Attributes:
        inputs: tensors by name, each a snippet that may use those before it; none of them may be changed.
        steps: snippets that run before the result for what they do.
        result: the snippet that is checked.
        expect: what of it is checked, see :data:`EXPECTATIONS`.
    """

    job: ClassVar[str] = "tensors"
    inputs: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    result: str = ""
    expect: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """That which is expected; float32, torch's default, where none is."""
        return str(self.expect.get("dtype", "float32"))

    @property
    def size(self) -> str:
        """The shape that is expected."""
        values = self.expect.get("values")
        shape = self.expect.get("shape", shape_of(values) if values is not None else None)
        return shape_text(shape) if shape is not None else "any"

    def problem(self, dtype: str) -> str:
        """A line of tensor code says its dtypes itself."""
        return (
            "" if dtype == self.dtype else f"case {self.name} says its own dtypes; leave dtype= out"
        )

    def load(self) -> None:
        """Look up the functions of torch that the snippets call."""
        for tree in self.trees():
            try:
                snippet.check_functions(tree)
            except ConfigError as error:
                raise ConfigError(f"case {self.name}: {error}") from error

    def trees(self) -> list[Any]:
        """The parsed snippets: inputs, steps and, last, the result."""
        names: list[str] = []
        trees = []
        for name, text in self.inputs.items():
            trees.append(_parsed(f"inputs.{name}", text, names))
            names.append(name)
        trees += [_parsed("steps", text, names) for text in self.steps]
        return [*trees, _parsed("result", self.result, names)]

    def check(self) -> None:
        """Check the snippets, and each expectation by itself."""
        self.trees()
        if not self.expect:
            raise ConfigError(
                f"expect: nothing is expected; give some of {', '.join(EXPECTATIONS)}"
            )
        for key, value in self.expect.items():
            if key not in EXPECTATIONS:
                if old := refusal(key, "case expect"):
                    raise ConfigError(f"expect: {old}")
                raise ConfigError(
                    f"expect: unknown {key!r}{suggestion(key, list(EXPECTATIONS))}; allowed: {', '.join(EXPECTATIONS)}"
                )
            _EXPECTED[key](self, value)
        values, shape = self.expect.get("values"), self.expect.get("shape")
        if values is not None and shape is not None and shape_of(values) != tuple(shape):
            raise ConfigError(
                f"expect: values are {shape_text(shape_of(values))} and shape is {shape_text(shape)}"
            )

    def _check_dtype(self, value: Any) -> None:
        if value not in KIND_OF:
            raise ConfigError(
                f"expect: dtype={value} is unknown{suggestion(str(value), list(KIND_OF))}; allowed: "
                f"{', '.join(KIND_OF)}"
            )

    def _check_aliases(self, value: Any) -> None:
        if value != NOTHING and value not in self.inputs:
            raise ConfigError(
                f"expect: aliases={value}: give one of inputs ({', '.join(self.inputs) or 'none'}), or {NOTHING}"
            )

    def _check_shape(self, value: Any) -> None:
        if not isinstance(value, list | tuple) or not all(_is_length(length) for length in value):
            raise ConfigError(f"expect: shape={value} is no list of lengths")

    def _check_range(self, value: Any) -> None:
        if not (isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))):
            raise ConfigError(f"expect: range={value} is no [low, high]; high is not part of it")

    def _check_yes(self, value: Any) -> None:
        if value is not True:
            raise ConfigError("expect: finite and reproducible are true, or left out")


_EXPECTED: dict[str, Callable[[TensorCase, Any], None]] = {
    "values": lambda case, value: check_nested("expect.values", value),
    "shape": TensorCase._check_shape,
    "dtype": TensorCase._check_dtype,
    "range": TensorCase._check_range,
    "finite": TensorCase._check_yes,
    "reproducible": TensorCase._check_yes,
    "aliases": TensorCase._check_aliases,
}


def _parsed(where: str, text: str, names: Sequence[str]) -> Any:
    try:
        return snippet.parse(text, names)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
