"""The pages of ``docs/reference`` that say what the code says: ``python docs/reference.py``.

A field is explained once, in the comment beside it; a key of the configuration in the comment of
its line. A test holds the pages to the code.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import refusals  # noqa: E402

from runner.analysis.comparison import Speedup  # noqa: E402
from runner.config.axes import AXES, CellKey  # noqa: E402
from runner.config.cases.gradient import ExpressionCase, FunctionCase  # noqa: E402
from runner.config.cases.tensor_code import EXPECTATIONS, TensorCase  # noqa: E402
from runner.config.domain import NAMED  # noqa: E402
from runner.config.dtypes import KINDS  # noqa: E402
from runner.config.implementation import Implementation  # noqa: E402
from runner.config.operation import Operation  # noqa: E402
from runner.config.schema import ClusterConfig, Timing  # noqa: E402
from runner.config.structure import STRUCTURES  # noqa: E402
from runner.config.workload.arguments import Tensor  # noqa: E402
from runner.config.workload.call import PASSES, Call  # noqa: E402
from runner.report.column_reference import (  # noqa: E402
    SIGNED,
    explained,
    tables,
    without_roles,
)
from runner.rows.columns import columns_in  # noqa: E402
from runner.rows.rows import FILE_OF_JOB, ROW_OF_JOB, Row  # noqa: E402

PAGES = ROOT / "docs" / "reference"
CHOICES = {
    "STRUCTURES": STRUCTURES,
    "PASSES": PASSES,
    "KINDS": KINDS,
    "EXPECTATIONS": EXPECTATIONS,
    "NAMED": NAMED,
}
"""What a name of the source stands for on the pages: the words that it holds."""
NEXT = {
    "configuration.md": "[Use](../use.md) has commands with them; "
    "[Axes and peaks](../axes.md) explains how calls can differ.",
    "operation_files.md": "[Add an operation](../operations.md), "
    "[Implementations](../implementations.md), [Your own functions](../functions.md) and "
    "[What a model pays](../models.md) show such files.",
    "refusals.md": "[Flags, statuses and exit codes](flags.md), [Use](../use.md).",
    "columns.md": "[Files of a run](../../outputs/README.md), [Flags](flags.md), "
    "[Trust a number](../trust.md), and [how to read the tables](../python.md#read-the-tables).",
}
"""The links at the end of a page."""


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The text of each page, by its file's name."""
    made = {
        "configuration.md": _configuration(),
        "operation_files.md": _files_of_people(),
        "columns.md": _columns(),
        "refusals.md": refusals.page(),
    }
    return {name: f"{text}\nNext: {NEXT[name]}\n" for name, text in made.items()}


def _configuration() -> str:
    keys = [line for line in _keys_of(ROOT / "conf" / "config.yaml") if any(line[1:])]
    said = explained(Timing)
    timing = [(f"timing.{key.name}", _default(key), said[key.name]) for key in fields(Timing)]
    said = explained(ClusterConfig)
    cluster = [
        (f"cluster.{key.name}", _default(key), said[key.name])
        for key in fields(ClusterConfig)
        if key.name in said
    ]
    return _page(
        "Configuration keys",
        "What `conf/config.yaml` holds. Give any of them on the command line, as `key=value`.",
        _table(("key", "default", "meaning"), keys),
        "## Timing\n\n`timing=minimal`, `quick`, `default` and `thorough` set these; "
        "`timing.precision=0.02` sets one.",
        _table(("key", "default", "meaning"), timing),
        "## Clusters\n\n`cluster=ray` and `cluster=slurm` set these.",
        _table(("key", "default", "meaning"), cluster),
    )


def _keys_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """The keys of a YAML file with their defaults and their comments, in its order."""
    above: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"( *)(\w+):(?: (.*?))?(?: +# (.*))?$", line)
        if match is None or line.startswith("#"):
            continue
        depth = len(match[1]) // 2
        above = [*above[:depth], match[2]]
        if above[0] in ("defaults", "hydra"):
            continue
        yield ".".join(above), match[3] or "", match[4] or ""


def _files_of_people() -> str:
    parts = [
        ("An operation", "A file of `conf/op`, or of `op/` in your folder.", (Operation,)),
        ("An implementation", "A value of `implementations`.", (Implementation,)),
        ("A call of a workload", "An entry of `calls`, or a line of `cells=FILE`.", (Call,)),
        ("A tensor of a call", "A mapping with a `shape` among its arguments.", (Tensor,)),
        ("A formula", "A file of `conf/case` with an `expression`.", (ExpressionCase,)),
        ("A function", "A file of `conf/case` with a `function`.", (FunctionCase,)),
        ("Tensor code", "A file of `conf/case` with a `result`.", (TensorCase,)),
    ]
    texts: list[str] = []
    for title, about, records in parts:
        lines = []
        for record in records:
            said = explained(record)
            lines += [(f.name, _default(f), _spelled_out(said[f.name])) for f in fields(record)]
        place = title.split()[1]
        texts += [f"## {title}\n\n{about}", _table(("field", "default", "meaning"), lines, place)]
    return _page("Fields of operation and case files", *texts)


def _columns() -> str:
    shared = [field for field in fields(Row) if field.name not in AXES]
    texts = [
        "Every table is a CSV. Units are in the names: `_s` seconds, `_bytes` bytes, `_hz` hertz, "
        "`_w` watts, `per_s` per second. What was not measured is blank. [Flags](flags.md) has "
        "the values of `flags`.",
        "## What every row begins with\n\nThe value on each axis, as in "
        "[the configuration](configuration.md), then:",
        _columns_of(Row, shared, "row"),
    ]
    in_every_row = {field.name for field in fields(Row)} | {"case"}
    for job, record in ROW_OF_JOB.items():
        own = [field for field in fields(record) if field.name not in in_every_row]
        texts += [
            f"## {FILE_OF_JOB[job]}\n\n{_summary(record)}",
            _columns_of(record, own, FILE_OF_JOB[job]),
        ]
    rows = set(ROW_OF_JOB.values())
    others = {file: record for file, record in tables().items() if record not in rows}
    of_axes = {field.name for field in fields(CellKey)}
    first: dict[type, str] = {}  # the table in which a record's columns are explained
    for file, record in others.items():
        texts.append(f"## {file}\n\n{_summary(record)}")
        if record in first:
            same = first[record]
            texts[-1] += f" Its columns are those of [{same}](#{same.replace('.', '')})."
            continue
        first[record] = file
        own = [field for field in columns_in(record) if field.name not in of_axes]
        texts.append(_columns_of(record, own, file))
    signed = [
        (name, "text" if kind == "str" else "whole number", said)
        for name, (kind, said) in SIGNED.items()
    ]
    texts += [
        "## What every row ends with\n\nIn the tables whose rows are cells or checks of cells:",
        _table(("column", "type", "meaning"), signed, "row"),
    ]
    return _page("Columns", *texts)


def _columns_of(record: type, chosen: Iterable[Field[object]], file: str) -> str:
    said = {**explained(Row), **explained(Speedup), **explained(record)}
    said["flags"] = said.get("flags", "") + ", see [Flags](flags.md)"
    lines = [(field.name, _kind(field), said[field.name]) for field in chosen]
    return _table(("column", "type", "meaning"), lines, file.removesuffix(".csv"))


def _spelled_out(text: str) -> str:
    """A meaning with the words that a name of the source stands for, instead of that name."""
    for name, words in CHOICES.items():
        text = text.replace(f"`{name}`", ", ".join(map(str, words)))
    return text


def _kind(field: Field[object]) -> str:
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false"}
    kind = str(field.type).partition(" | ")[0]
    return names.get(kind, "words")


def _default(field: Field[object]) -> str:
    if field.default is not MISSING:
        return "" if field.default in (None, "", ()) else str(field.default)
    return "" if field.default_factory is not MISSING else "needed"


def _summary(record: type) -> str:
    first = inspect.cleandoc(record.__doc__ or "").split("\n\n")[0]
    return without_roles(first.partition(": ")[2] or first)


def _table(heads: tuple[str, ...], lines: Iterable[tuple[str, ...]], place: str = "") -> str:
    """A table, of which each line has an anchor: its name, after that of the ``place``."""
    rows = [heads, tuple("---" for _ in heads)]
    for name, *rest in lines:
        anchor = f'<a id="{place}{"." if place else ""}{name}"></a>'
        rows.append((f"{anchor}`{name}`", *(text.replace("|", "\\|") for text in rest)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", *parts)) + "\n"


if __name__ == "__main__":
    main()
