"""The axes: a cell is one value of each. Adding one is a line of :class:`CellKey`, and the code that acts on it.

What identifies a row, is compared, labels it and reproduces it follows from this table: the configuration has a key for
each axis, every row a column, and two rows are compared along one of them where they agree in all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import partial
from operator import attrgetter
from typing import Any, get_type_hints

NAMED = ("op", "size", "dtype", "device")
"""The axes that every label names, whatever their values."""


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        name: the key of the configuration, and the column of the rows.
        default: what it is where the configuration says nothing; None: what the operation or the machine decides.
        choices: the values that it may have; blank: any, or checked elsewhere.
        compared: whether rows can be compared along it.
        benchmark_only: whether it says nothing to jobs other than benchmark, whose rows leave it blank.
        setting: its type in the configuration, where that is not the type in the rows.
        usual: the baseline, where the axis is compared and the user names none; None: the default, or the first value.
        rank: the place among the axes that are compared where the user names none; None: not among them.
    """

    name: str
    default: Any
    choices: tuple[str, ...]
    compared: bool
    benchmark_only: bool
    setting: Any
    usual: Any
    rank: int | None


def _axis(
    default: Any = None,
    choices: tuple[str, ...] = (),
    *,
    compared: bool = True,
    benchmark_only: bool = False,
    setting: Any = None,
    usual: Any = None,
    rank: int | None = None,
) -> Any:
    """A field of :class:`CellKey` that declares an axis."""
    of_axis = {
        "choices": choices,
        "compared": compared,
        "benchmark_only": benchmark_only,
        "setting": setting,
        "usual": default if usual is None else usual,
        "rank": rank,
    }
    return field(
        default=None if benchmark_only else default, metadata={"default": default, **of_axis}
    )


@dataclass(frozen=True)
class CellKey:
    """What tells one cell from another: its value on each axis, in the order of the columns.

    Attributes:
        op: the operation's name, or the case's.
        size: the shape of the first input, and what differs from the defaults.
        dtype, device: as asked for; ``gpu`` is whatever accelerator there is.
        threads: PyTorch's intra-op threads; None in a cell: PyTorch's default.
        direction: forward, backward (the backward pass alone) or both.
        cache: whether the last-level cache holds what a call reads: warm, or cold.
        layout: how the inputs lie in memory.
        fill: what the inputs hold.
        compile: whether the call goes through torch.compile.
        graph: whether it is replayed as a CUDA graph.
        seed: of the inputs.
    """

    op: str = _axis(setting=dict[str, Any])
    size: str = _axis(setting=Any)
    dtype: str = _axis(usual="float32", rank=2)
    device: str = _axis("cpu", rank=0)
    threads: int | None = _axis(rank=3)
    direction: str = _axis("forward", ("forward", "backward", "both"), benchmark_only=True, rank=7)
    cache: str = _axis("warm", ("warm", "cold"), benchmark_only=True, rank=6)
    layout: str = _axis("contiguous", ("contiguous", "transposed"), benchmark_only=True, rank=5)
    fill: str = _axis("normal", ("normal", "uniform", "integers", "zeros"), benchmark_only=True)
    compile: bool = _axis(False, benchmark_only=True, rank=4)
    graph: bool = _axis(False, benchmark_only=True)
    seed: int = _axis(0, compared=False)


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
FURTHER = tuple(name for name in AXES if name not in NAMED)
"""The axes that a label names only where it has to."""


def same_but(axis: str, *others: str) -> Callable[[Any], tuple[Any, ...]]:
    """What cells, rows or comparisons have in common that differ along one axis alone, as a function of one of them.

    Operations that are compared with each other differ in their files too, and so in their variant.

    Args:
        axis: along which they may differ.
        others: further axes of that kind.
    """
    variant = () if axis == "op" else ("variant",)
    return values_of(*(name for name in AXES if name not in (axis, *others)), *variant)


def values_of(*names: str) -> Callable[[Any], tuple[Any, ...]]:
    """What reads these attributes of an object, always as a tuple: ``attrgetter`` gives a single one as it is."""
    if len(names) < 2:
        return partial(
            _few_values, names
        )  # no lambda: the names of a report's cells go to the process that draws it
    read_all: Callable[[Any], tuple[Any, ...]] = attrgetter(*names)
    return read_all


def _few_values(names: Sequence[str], item: object) -> tuple[Any, ...]:
    return tuple(getattr(item, name) for name in names)


def label(job: str, key: CellKey, said: Callable[[str], bool] | None = None) -> str:
    """A cell in a few words: its job where that is no benchmark, what is always named, and what is not the default.

    Args:
        job: of the cell.
        key: the cell, or a row of it.
        said: which further axes may be named; None: all.
    """
    words = [] if job in ("benchmark", key.op) else [job]
    words += [str(getattr(key, name)) for name in NAMED]
    for name in FURTHER:
        value = getattr(key, name)
        if (
            AXES[name].compared
            and value not in (None, AXES[name].default)
            and (said is None or said(name))
        ):
            words.append(f"{name}={value}")
    return " ".join(words)


def _settings() -> list[Any]:
    """The configuration's keys, as fields of a dataclass."""
    hints = get_type_hints(CellKey)
    settings: list[Any] = []
    for name, axis in AXES.items():
        if axis.setting == dict[str, Any]:
            settings.append((name, axis.setting, field(default_factory=dict)))
            continue
        kind = axis.setting or hints[name]
        settings.append(
            (name, kind if axis.default is not None else kind | None, field(default=axis.default))
        )
    return settings


AxisSettings: Any = make_dataclass("AxisSettings", _settings())
"""The part of the configuration that has a key for each axis."""
