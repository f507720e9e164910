"""A call of a workload: a function with the shapes, dtypes, layouts and values of its arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from runner.config.dtypes import KIND_OF
from runner.config.fields import check_fields, read_fields
from runner.errors import ConfigError, naming, one_line, unknown

PASSES = ("forward", "backward", "step")
NAME = re.compile(r"[\w-]+")
NEEDED = ("args", "outputs")  # of a call that can be made, beside its function
COLUMNS = ("workload", "count", "modules", "passes")  # of its rows, among those of one's own
# what a model's time is made of beside its calls as they are alone: in seconds, columns of its row
PARTS = ("caches", "page_faults", "outside")
HOST = ""  # who gives a model its inputs and takes its outputs, among who hands on what


def _whole_number(key: str, value: object) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 10**12:
        return value
    raise ConfigError(f"{key}: {one_line(value, 40)} is no count; give a whole number of 1 or more")


@dataclass(frozen=True)
class Call:
    """One entry of a workload."""

    function: str = ""  # dotted name of what is called; blank: the operation that ``op`` names
    # its arguments by position. A mapping with a ``shape`` stands for a tensor, ``"{dtype}"`` and
    # ``"{device}"`` for the cell's; all else is itself
    args: tuple[Any, ...] = ()
    # its arguments by name, written like ``args``
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[Any, ...] = ()  # the shapes of the tensors that it returns
    dtype: str = "float32"  # the model's dtype; tensors that have it get the dtype of the cell
    # how often the model makes the call
    count: int = field(default=1, metadata={"reader": _whole_number})
    # the parts of the model that make it, and how often each
    modules: Mapping[str, Any] = field(default_factory=dict)
    # marks the model itself, which ``function`` makes and which is in no sum; what is done with it,
    # one of :data:`PASSES`
    passes: str = ""
    tolerance: str = ""  # as an operation's; blank: it follows from the number of products in a sum
    # differentiable, random, implementations: as an operation's
    differentiable: bool = True
    random: bool = False
    implementations: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""  # why it cannot be made again; blank: it can be
    name: str = ""  # its name within its workload
    workload: str = ""  # the name of its workload

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Call:
        """Check an entry's fields; ConfigError where one is wrong or missing."""
        check_fields(values, cls, "call", "a call")
        call = read_fields(cls, values)
        missing = [key for key in NEEDED if key not in values]
        if call.function and missing and not call.reason:
            what = "a call says its function, args and outputs (the shapes that it returns)"
            raise ConfigError(f"{call.function}: missing field {', '.join(missing)}; {what}")
        if KIND_OF.get(call.dtype) not in ("floating", "complex"):
            raise ConfigError(f"dtype: {call.dtype} is none of a model; give float32 or the like")
        if call.passes and call.passes not in PASSES:
            raise unknown(f"passes: {call.passes} is none", call.passes, PASSES)
        for key, name in (("name", call.name), ("workload", call.workload)):
            if name and not NAME.fullmatch(name):
                raise ConfigError(
                    f"{key}: {one_line(name, 40)} is no name; give letters and digits"
                )
        return call

    @classmethod
    def parse(cls, text: str) -> Call:
        """Read what :attr:`text` gives; ConfigError where it is none."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            advice = "with workload= give the name of one of its calls"
            raise ConfigError(f"call={one_line(text, 60)} is no call; {advice}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"call={one_line(text, 60)} is no call; give a mapping of its fields")
        with naming("call"):
            return cls.of(values)

    @property
    def text(self) -> str:
        """The call as JSON, with the fields that say something."""
        known, defaults = asdict(self), asdict(Call())
        needed = NEEDED if self.function and not self.reason else ()
        said = [key for key in known if known[key] != defaults[key] or key in needed]
        return json.dumps({key: known[key] for key in said})

    @property
    def columns(self) -> str:
        """What its rows have as columns of their own, as JSON."""
        modules = one_line(" ".join(f"{name}*{n}" for name, n in self.modules.items()), 500)
        of_row = {"workload": self.workload, "count": self.count}
        return json.dumps({**of_row, "modules": modules or None, "passes": self.passes or None})


OF_CALL = frozenset(f.name for f in fields(Call))
"""The fields of a call; an entry with none of them but ``dtype`` is a cell of an operation."""
