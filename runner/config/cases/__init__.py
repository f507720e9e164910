"""A case as its YAML declares it: a function with inputs of its own, whose gradient or values are checked.

There are three kinds, told apart by a field: ``expression`` (a formula, whose gradient SymPy knows), ``function`` (any
importable callable) and ``result`` (a line of tensor code with what is expected of it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from runner.config.cases.base import Case
from runner.config.cases.gradient import ExpressionCase, FunctionCase, GradientCase
from runner.config.cases.tensor_code import TensorCase
from runner.config.renamed import check_fields
from runner.errors import ConfigError

__all__ = ["Case", "ExpressionCase", "FunctionCase", "GradientCase", "TensorCase", "read_case"]

KINDS: dict[str, type[Case]] = {
    "expression": ExpressionCase,
    "function": FunctionCase,
    "result": TensorCase,
}


def read_case(given: Mapping[str, Any]) -> Case:
    """Check a mapping read from YAML.

    Raises:
        ConfigError: a field is missing, misspelt or of the wrong type, or they do not fit.
    """
    source = f"case file {given.get('name') or '(no name)'}"
    kinds = [key for key in KINDS if given.get(key) not in (None, "")]
    if not given.get("name") or len(kinds) != 1:
        raise ConfigError(
            f"{source}: a case needs a name, and one of {', '.join(KINDS)}; it has {_listed(given)}"
        )
    kind = KINDS[kinds[0]]
    names = [f.name for f in fields(kind)]
    check_fields(given, names, "case", source, listed=f"with {kinds[0]} the fields are")
    try:
        case = kind(**{key: _read(key, value) for key, value in given.items() if value is not None})
        case.check()
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return case


def _read(key: str, value: Any) -> Any:
    if key in ("values", "kwargs", "inputs", "expect"):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}: {value!r} is not a mapping")
        named = {str(name): item for name, item in value.items()}
        texts = key != "inputs" or all(isinstance(item, str) for item in named.values())
        if not texts:
            raise ConfigError(
                "inputs: each tensor is a line of tensor code, such as torch.arange(16)"
            )
        return named
    if key in ("gradients", "steps"):
        listed = (value,) if isinstance(value, str) else value
        if not isinstance(listed, Sequence) or not all(isinstance(item, str) for item in listed):
            raise ConfigError(f"{key}: {value!r} is not a list of texts")
        return tuple(listed)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{key}: {value!r} is not text")
    return str(value)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(str, names)) or "nothing"
