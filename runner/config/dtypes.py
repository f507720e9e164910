"""The dtypes by name, without torch: they are checked before torch is imported."""

from __future__ import annotations

import re
from functools import reduce
from operator import or_

KINDS = {
    "floating": ("float16", "bfloat16", "float32", "float64"),
    "float8": ("float8_e4m3fn", "float8_e5m2"),
    "integer": ("uint8", "int8", "int16", "int32", "int64"),
    "complex": ("complex64", "complex128"),
    "bool": ("bool",),
}
"""Each kind of dtype that an operation's ``dtypes:`` may name, and its members.

It may name a dtype alone, too. Those of 8 bits are a kind of their own: few operations know them.
"""

KIND_OF = reduce(or_, (dict.fromkeys(names, kind) for kind, names in KINDS.items()))
"""The kind of each dtype."""

ALIASES = {
    "fp8": "float8_e4m3fn",
    "float8": "float8_e4m3fn",
    "half": "float16",
    "fp16": "float16",
    "bf16": "bfloat16",
    "single": "float32",
    "float": "float32",
    "fp32": "float32",
    "double": "float64",
    "fp64": "float64",
    "byte": "uint8",
    "short": "int16",
    "int": "int64",
    "long": "int64",
    "complex": "complex64",
    "boolean": "bool",
}
"""What dtypes are called elsewhere."""

ITEM_BYTES = {name: int((re.findall(r"\d+", name) or ["8"])[0]) // 8 for name in KIND_OF}
"""Bytes of one element; bool, without digits, has one."""
