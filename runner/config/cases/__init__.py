"""A case as its YAML declares it: a function with inputs of its own, whose results are checked.

There are three kinds, told apart by a field: ``expression`` (a formula, whose gradient SymPy
knows), ``function`` (any importable callable) and ``result`` (a line of tensor code with what is
expected of it).
"""

from __future__ import annotations

from collections.abc import Mapping

from runner.config.cases.base import Case
from runner.config.cases.gradient import ExpressionCase, FunctionCase, GradientCase
from runner.config.cases.tensor_code import TensorCase
from runner.config.fields import check_fields, read_fields
from runner.errors import ConfigError, naming

__all__ = ["Case", "ExpressionCase", "FunctionCase", "GradientCase", "TensorCase", "read_case"]

KINDS: dict[str, type[Case]] = {
    "expression": ExpressionCase,
    "function": FunctionCase,
    "result": TensorCase,
}


def read_case(mapping: Mapping[str, object]) -> Case:
    """Check the fields of a case file; ConfigError where one is missing, wrong, or does not fit."""
    source = f"case file {mapping.get('name') or '(no name)'}"
    kinds = [key for key in KINDS if mapping.get(key) not in (None, "")]
    if not mapping.get("name") or len(kinds) != 1:
        fields = ", ".join(map(str, mapping)) or "nothing"
        raise ConfigError(
            f"{source}: a case needs a name, and one of {', '.join(KINDS)}; it has {fields}"
        )
    kind = KINDS[kinds[0]]
    check_fields(mapping, kind, "case", source, listed=f"with {kinds[0]} the fields are")
    with naming(source):
        case = read_fields(kind, mapping)
        case.check()
    return case
