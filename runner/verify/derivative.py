"""The exact gradient of an expression: derived by SymPy, evaluated by mpmath to many digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from typing import Any

import mpmath
import sympy

from runner.config.arithmetic import build
from runner.config.cases.expression import CONSTANTS, FUNCTIONS, parse, symbols_in

DIGITS = 40  # decimal; float64 has 16, and sums and cancellations take some


@dataclass(frozen=True)
class Exact:
    """An expression and its derivative by each symbol, as functions of real numbers."""

    symbols: tuple[str, ...]  # in the order of the functions' arguments
    value: Callable[..., Any]
    slopes: Mapping[str, Callable[..., Any]]
    texts: Mapping[str, str]  # each derivative as SymPy writes it

    def at(self, function: Callable[..., Any], points: Sequence[Sequence[float]]) -> list[Any]:
        """The value or one of the slopes at each point, by mpmath; NaN where it is not real."""
        with mpmath.workdps(DIGITS):
            return [_real(function, [mpmath.mpf(number) for number in point]) for point in points]

    def slopes_at(self, name: str, points: Sequence[Sequence[float]]) -> list[Any]:
        """The slope by a symbol at each point; NaN where there is none.

        SymPy's form of it may be 0/0 where there is one, as x**y*y/x is at 0: there it is that of
        the value, taken to both sides so near that they agree to more digits than float64 has.
        """
        found, column = self.at(self.slopes[name], points), self.symbols.index(name)
        for i, point in enumerate(points):
            if mpmath.isnan(found[i]):
                with mpmath.workdps(2 * DIGITS):
                    found[i] = _difference(self.value, [mpmath.mpf(n) for n in point], column)
        return found

    def total(self, numbers: Sequence[Any], share: int) -> float:
        """The sum of numbers over ``share``, rounded to a float once."""
        with mpmath.workdps(DIGITS):
            return float(mpmath.fsum(numbers) / share)


def derive(text: str) -> Exact:
    """Differentiate an expression by each of its symbols; ConfigError where it is none.

    >>> derive("sin(x**2 + 1)").texts["x"]
    '2*x*cos(x**2 + 1)'
    """
    # parse() lets only arithmetic and known functions through to SymPy, whose lambdify() compiles
    names = symbols_in(text)
    symbols = {name: sympy.Symbol(name, real=True) for name in names}
    constants = {name: getattr(sympy, name) for name in CONSTANTS}
    functions = {name: getattr(sympy, {"abs": "Abs"}.get(name, name)) for name in FUNCTIONS}
    tree = build(parse(text), {**symbols, **constants}, functions, sympy.sympify)
    slopes = {name: sympy.diff(tree, symbol) for name, symbol in symbols.items()}
    function = partial(sympy.lambdify, list(symbols.values()), modules="mpmath")
    return Exact(
        symbols=names,
        value=function(tree),
        slopes={name: function(slope) for name, slope in slopes.items()},
        texts={name: str(slope) for name, slope in slopes.items()},
    )


def _difference(function: Callable[..., Any], point: Sequence[Any], column: int) -> object:
    """The slope of a function along one argument, where it is the same to both sides; else NaN."""
    step, unit = mpmath.mpf(10) ** -DIGITS, [int(i == column) for i in range(len(point))]
    ahead, here, behind = (
        _real(function, [number + sign * step * u for number, u in zip(point, unit, strict=True)])
        for sign in (1, 0, -1)
    )
    left, right = (here - behind) / step, (ahead - here) / step
    same = abs(right - left) <= mpmath.mpf(10) ** (-DIGITS // 2) * max(1, abs(left))
    return (left + right) / 2 if same else mpmath.mpf(nan)


def _real(function: Callable[..., Any], point: Sequence[Any]) -> mpmath.mpf:
    """A function's value where it is a finite real number, and NaN elsewhere."""
    try:
        value = mpmath.mpmathify(function(*point))
    except (ArithmeticError, ValueError, TypeError, NameError):  # a pole, or no such function there
        return mpmath.mpf(nan)
    if isinstance(value, mpmath.mpc):
        return value.real if value.imag == 0 else mpmath.mpf(nan)
    return value if mpmath.isfinite(value) else mpmath.mpf(nan)
