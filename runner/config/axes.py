"""The axes: a cell is one value of each. Adding one is a line of :class:`CellKey`, and its code.

What identifies a row, is compared, labels it and reproduces it follows from this table: the
configuration has a key for each axis, every row a column, and two rows are compared along one of
them where they agree in all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import partial
from operator import attrgetter
from typing import Any, get_type_hints

from runner.config.size import MOST_DIMENSIONS

LAYOUTS = {
    "contiguous": range(MOST_DIMENSIONS),
    "transposed": range(2, MOST_DIMENSIONS),
    "channels_last": range(4, 6),
    "strided": range(1, MOST_DIMENSIONS),
    "expanded": range(1, MOST_DIMENSIONS),
}
"""How inputs may lie in memory, and how many dimensions one may have that lies so."""

DIRECTIONS = ("forward", "backward", "both", "recompute")
COMPILING = ("off", "default", "reduce-overhead", "max-autotune")
OFF = {"false": "off"}  # which YAML makes of it
ON_OFF = {"true": "default", **OFF}

NAMED = ("op", "size", "dtype", "device")
"""The axes that every label names, whatever their values."""


@dataclass(frozen=True)
class Axis:
    """One axis."""

    name: str  # the key of the configuration, and the column of the rows
    # where the configuration says nothing; None: the operation or the machine decides
    default: object
    choices: tuple[str, ...]  # the values that it may have; blank: any, or checked elsewhere
    compared: bool = True  # whether rows can be compared along it
    benchmark_only: bool = False  # whether rows of other jobs than benchmark leave it blank
    in_autograd: bool = False  # whether those of an operation's gradients have it all the same
    setting: object = None  # its type in the configuration, where that is not the type in the rows
    # the baseline where the user names none; None: the default, or the first value
    usual: object = None
    # among the axes that are compared where the user names none; None: not among them
    rank: int | None = None
    # other words for its values, in lower case
    aliases: Mapping[str, str] = field(default_factory=dict)
    # whether it is a key of the configuration; otherwise it follows from others
    has_key: bool = True

    @property
    def usual_baseline(self) -> object:
        """The value that others are compared with where the user names none and it is there."""
        return self.default if self.usual is None else self.usual


def _axis(default: object = None, choices: tuple[str, ...] = (), **facts: object) -> Any:
    """A field of :class:`CellKey` that declares an axis by the attributes of :class:`Axis`."""
    in_rows = None if facts.get("benchmark_only") else default
    return field(default=in_rows, metadata={"default": default, "choices": choices, **facts})


@dataclass(frozen=True)
class CellKey:
    """What tells one cell from another: its value on each axis, in the order of the columns.

    ``conf/config.yaml`` says what those without a comment are.
    """

    op: str = _axis(setting=dict[str, Any])  # the operation's name, or the case's
    # the shape of the first input, and what differs from the defaults
    size: str = _axis(setting=Any)
    dtype: str = _axis(usual="float32", rank=2)  # that of the inputs
    device: str = _axis("cpu", rank=1)
    threads: int | None = _axis(rank=3)  # PyTorch's intra-op threads during the cell
    impl: str = _axis("default", benchmark_only=True, in_autograd=True, rank=0)
    direction: str = _axis("forward", DIRECTIONS, benchmark_only=True, rank=7)
    cache: str = _axis("warm", ("warm", "cold"), benchmark_only=True, rank=6)
    layout: str = _axis("contiguous", tuple(LAYOUTS), benchmark_only=True, rank=5)
    fill: str = _axis("normal", ("normal", "uniform", "integers", "zeros"), benchmark_only=True)
    compile: str = _axis(
        "off", COMPILING, benchmark_only=True, in_autograd=True, rank=4, aliases=ON_OFF
    )
    dynamic: bool = _axis(False, benchmark_only=True, in_autograd=True, rank=8)
    grad_mode: str = _axis(
        "enabled", ("enabled", "no_grad", "inference"), benchmark_only=True, rank=9
    )
    autocast: str = _axis(
        "off",
        ("off", "bfloat16", "float16"),
        benchmark_only=True,
        in_autograd=True,
        rank=10,
        aliases=OFF,
    )
    deterministic: bool = _axis(False, benchmark_only=True, rank=11)
    graph: bool = _axis(False, benchmark_only=True)
    # what the command says of the operation's own, ``dim=0`` for ``op.kwargs.dim=0``
    parameters: str | None = _axis(rank=12, has_key=False)
    seed: int = _axis(0, compared=False)  # that of the numbers that inputs are drawn from


AXES: Mapping[str, Axis] = {f.name: Axis(f.name, **f.metadata) for f in fields(CellKey)}
COMPARED = tuple(name for name, axis in AXES.items() if axis.compared)
COMPARED_BY_ITSELF = tuple(
    sorted(
        (name for name, axis in AXES.items() if axis.rank is not None),
        key=lambda name: AXES[name].rank or 0,
    )
)
"""The axes of which the first that has several values is compared, where the user names none."""
BENCHMARK_ONLY = tuple(name for name, axis in AXES.items() if axis.benchmark_only)
OF_GRADIENTS = tuple(name for name, axis in AXES.items() if axis.in_autograd)
FURTHER = tuple(name for name in AXES if name not in NAMED)
"""The axes that a label names only where it has to."""


def named_value(axis: str, value: object) -> object:
    """A value as its axis calls it."""
    return AXES[axis].aliases.get(str(value).lower(), value) if axis in AXES else value


def not_of(job: str, *, of_case: bool = False) -> tuple[str, ...]:
    """The axes that a job has not, of an operation or of a case."""
    if job == "benchmark":
        return ()
    has = OF_GRADIENTS if job == "autograd" and not of_case else ()
    return tuple(name for name in BENCHMARK_ONLY if name not in has)


def same_but(axis: str, *others: str) -> Callable[[object], tuple[Any, ...]]:
    """What reads that which cells, rows or comparisons share if they differ along ``axis`` alone.

    Operations that are compared differ in their files too, and so in their variant. ``others``
    are further axes along which they may differ.
    """
    variant = () if axis in ("op", "parameters") else ("variant",)
    return values_of(*(name for name in AXES if name not in (axis, *others)), *variant)


def values_of(*names: str) -> Callable[[object], tuple[Any, ...]]:
    """What reads these attributes of an object, always as a tuple, and can be pickled."""
    if len(names) > 1:
        read_all: Callable[[object], tuple[Any, ...]] = attrgetter(*names)
        return read_all
    return partial(_few_values, names)  # attrgetter gives a single one as it is


def _few_values(names: Sequence[str], item: object) -> tuple[Any, ...]:
    return tuple(getattr(item, name) for name in names)


def label(job: str, key: CellKey, said: Callable[[str], bool] = lambda axis: True) -> str:
    """A cell in a few words; ``said`` tells which axes may be named beside those always named."""
    words = [] if job in ("benchmark", key.op) else [job]
    words += [str(getattr(key, name)) for name in NAMED]
    for axis in map(AXES.__getitem__, FURTHER):
        value = getattr(key, axis.name)
        if value is not None and value != axis.default and said(axis.name):
            words.append(f"{axis.name}={value}" if axis.has_key else str(value))
    return " ".join(words)


def _settings() -> list[tuple[str, Any, Any]]:
    """The configuration's keys, as fields of a dataclass."""
    hints = get_type_hints(CellKey)
    settings: list[tuple[str, Any, Any]] = []
    for name, axis in AXES.items():
        kind: Any = axis.setting or hints[name]
        if not axis.has_key:
            continue
        if kind == dict[str, Any]:
            settings.append((name, kind, field(default_factory=dict)))
        elif axis.default is None:
            settings.append((name, kind | None, field(default=None)))
        else:
            settings.append((name, kind, field(default=axis.default)))
    return settings


AxisSettings: Any = make_dataclass("AxisSettings", _settings())
"""The part of the configuration that has a key for each axis."""
