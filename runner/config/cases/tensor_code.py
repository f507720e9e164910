"""Cases of tensor code: a line, and what its result has to be."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from runner.config.cases import snippet
from runner.config.cases.base import Case
from runner.config.cases.nested import check_nested, is_number, shape_of
from runner.config.dtypes import KIND_OF
from runner.config.fields import mapping
from runner.config.renamed import refusal
from runner.config.size import shape_text
from runner.errors import ConfigError, naming, unknown

EXPECTATIONS = ("values", "shape", "dtype", "range", "finite", "reproducible", "aliases")
NOTHING = "nothing"  # in aliases: the result has memory of its own


def _snippets(key: str, value: object) -> dict[str, object]:
    snippets = mapping(key, value)
    if not all(isinstance(item, str) for item in snippets.values()):
        raise ConfigError("inputs: each tensor is a line of tensor code, such as torch.arange(16)")
    return snippets


@dataclass(frozen=True)
class TensorCase(Case):
    """A line of tensor code, and what its result has to be."""

    job: ClassVar[str] = "tensors"
    # tensors by name, each a snippet that may use those before it; none may be changed
    inputs: Mapping[str, str] = field(default_factory=dict, metadata={"reader": _snippets})
    # snippets that run before the result for what they do
    steps: tuple[str, ...] = ()
    result: str = ""  # the snippet that is checked
    # what is checked, by name: :data:`EXPECTATIONS`
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
        is_own = dtype == self.dtype
        return "" if is_own else f"case {self.name} says its own dtypes; leave dtype= out"

    def load(self) -> None:
        """Look up the functions of torch that the snippets call."""
        with naming(f"case {self.name}"):
            for tree in self.trees():
                snippet.check_functions(tree)

    def trees(self) -> list[ast.expr]:
        """The parsed snippets: inputs, steps and, last, the result."""
        names: list[str] = []
        trees = []
        for name, text in self.inputs.items():
            trees.append(_parsed(f"inputs.{name}", text, names))
            names.append(name)
        trees += [_parsed("steps", text, names) for text in self.steps]
        return [*trees, _parsed("result", self.result, names)]

    def check(self) -> None:
        """Check the snippets, and each expectation on its own."""
        self.trees()
        if not self.expect:
            allowed = ", ".join(EXPECTATIONS)
            raise ConfigError(f"expect: nothing is expected; give some of {allowed}")
        for key, value in self.expect.items():
            if old := refusal(key, "case expect"):
                raise ConfigError(f"expect: {old}")
            if key not in EXPECTATIONS:
                raise unknown(f"expect: unknown {key!r}", key, EXPECTATIONS)
            self._check_expected(key, value)
        values, shape = self.expect.get("values"), self.expect.get("shape")
        if values is not None and shape is not None and shape_of(values) != tuple(shape):
            shown, expected = shape_text(shape_of(values)), shape_text(shape)
            raise ConfigError(f"expect: values are {shown} and shape is {expected}")

    def _check_expected(self, key: str, value: object) -> None:
        items = value if isinstance(value, list | tuple) else None
        match key:
            case "values":
                check_nested("expect.values", value)
            case "shape" if items is None or not all(type(n) is int and n >= 0 for n in items):
                raise ConfigError(f"expect: shape={value} is no list of lengths")
            case "dtype" if value not in KIND_OF:
                raise unknown(f"expect: dtype={value} is unknown", str(value), KIND_OF)
            case "range" if items is None or len(items) != 2 or not all(map(is_number, items)):
                raise ConfigError(
                    f"expect: range={value} is no [low, high]; high is not part of it"
                )
            case "finite" | "reproducible" if value is not True:
                raise ConfigError("expect: finite and reproducible are true, or left out")
            case "aliases" if value != NOTHING and value not in self.inputs:
                inputs = ", ".join(self.inputs) or "none"
                raise ConfigError(
                    f"expect: aliases={value}: give one of inputs ({inputs}), or {NOTHING}"
                )


def _parsed(where: str, text: str, names: Sequence[str]) -> ast.expr:
    with naming(where):
        return snippet.parse(text, names)
