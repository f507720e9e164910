"""Cases whose gradients are checked: formulas, which SymPy derives, and any function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar

from runner.config.callables import load_callable
from runner.config.cases import expression
from runner.config.cases.base import Case
from runner.config.cases.nested import check_nested, kind_of, shape_of
from runner.config.size import shape_text
from runner.errors import ConfigError, suggestion, unknown

REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class GradientCase(Case):
    """A case whose gradient is checked."""

    job: ClassVar[str] = "autograd"
    # the number or nested list of numbers of each input
    values: Mapping[str, Any] = field(default_factory=dict)
    # how the elements become the one number whose gradient is taken, sum or mean
    reduce: str = "sum"
    # the inputs whose gradients are checked; blank: all
    gradients: tuple[str, ...] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """The inputs whose gradients are checked."""
        numbers = (name for name, value in self.values.items() if kind_of(value) is not bool)
        return self.gradients or tuple(numbers)

    @property
    def size(self) -> str:
        """The first input's shape that is not a single number's."""
        shapes = [shape_of(value) for value in self.values.values()]
        return shape_text(next(filter(None, shapes), ()))

    def check(self) -> None:
        """Check names, values and the reduction."""
        if not self.values:
            raise ConfigError(
                "values: none given; give each input a number or a nested list of numbers"
            )
        for name, value in self.values.items():
            check_nested(f"values.{name}", value)
        if self.reduce not in REDUCTIONS:
            raise unknown(f"reduce={self.reduce} is unknown", self.reduce, REDUCTIONS)
        if not self.asked:
            raise ConfigError("values: truth values alone have no gradient; give a number too")
        for name in self.gradients:
            if name not in self.values:
                hint = suggestion(name, self.values)
                raise ConfigError(
                    f"gradients: {name} is no input{hint}; there are {', '.join(self.values)}"
                )


@dataclass(frozen=True)
class ExpressionCase(GradientCase):
    """A formula, element by element, whose exact gradient SymPy derives."""

    expression: str = ""  # of the symbols in ``values``, such as ``sin(x**2 + 1)``

    def load(self) -> None:
        """There is nothing to import."""

    def check(self) -> None:
        """Check that each symbol has a value, and that their shapes go together."""
        symbols = expression.symbols_in(self.expression)
        where = f"expression {self.expression!r}"
        if not symbols:
            raise ConfigError(f"{where} has no symbol, and so no gradient")
        for name in symbols:
            if name not in self.values:
                hint = suggestion(name, self.values)
                values = ", ".join(self.values) or "none"
                raise ConfigError(f"{where}: unknown symbol {name}{hint}; values: gives {values}")
        unused = [name for name in self.values if name not in symbols]
        if unused:
            raise ConfigError(f"values: {unused[0]} is not in the {where}")
        super().check()
        shapes = {name: shape_of(value) for name, value in self.values.items()}
        for lengths in zip_longest(*map(reversed, shapes.values()), fillvalue=1):
            if len(set(lengths) - {1}) > 1:
                shown = ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items())
                raise ConfigError(
                    f"values: shapes do not go together: {shown}; "
                    "each dimension has to be equal, or 1"
                )


@dataclass(frozen=True)
class FunctionCase(GradientCase):
    """Any importable function of tensors."""

    function: str = ""  # its dotted name
    # constants passed by name; the values are passed by position
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    # the dotted name of the function whose gradient it is meant to have; blank: its own
    gradient_of: str = ""

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        self.load_other()
        return load_callable(self.function, f"case {self.name}: function")

    def load_other(self) -> Callable[..., Any] | None:
        """Import ``gradient_of``, None where it is blank."""
        where = f"case {self.name}: gradient_of"
        return load_callable(self.gradient_of, where) if self.gradient_of else None
