"""Cells given one by one, instead of a product of axes: ``zip=[...]``, ``cells=FILE``, a workload.

An entry is a cell by its keys, a call by its fields (:class:`runner.config.workload.call.Call`), or
a cell with the ``count`` of a workload.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from runner.cells.grid import plain
from runner.config.axes import AXES
from runner.config.schema import PAIRS
from runner.config.workload.call import OF_CALL, Call
from runner.errors import ConfigError, naming, one_line, unknown
from runner.files import bounded_lines

KEYS = ("zip", "cells", "workload")
"""The keys of the configuration that list cells; where there are any, ``call`` chooses of them."""
COLUMNS = (*(name for name, axis in AXES.items() if axis.has_key), "case", "job", "call")
GROUPS = ("timing", "limit", "op")  # of which a column may be a key, such as op.kwargs.dim

Listed = tuple[str, Mapping[str, Any]]
"""Where a cell is listed, and its value of each key; a key that it does not have is left out."""


def listed_cells(config: DictConfig) -> list[Listed]:
    """What the configuration lists; nothing where it lists no cells.

    Raises:
        ConfigError: the list or the file is none, or has a column that is no key of a cell.
    """
    given = [key for key in KEYS if config[key]]
    if len(given) > 1:
        raise ConfigError(f"{given[0]}= and {given[1]}= both list cells; give one of them")
    path, workloads = Path(str(config.cells)), plain(config.workload)
    found = _of_file(path) if config.cells else _of_list(plain(config.zip))
    found = _of_workloads(workloads) if workloads else found
    most = config.sweep.max_cells
    entries = list(islice(found, most + 1))
    if len(entries) > most:
        raise ConfigError(f"cells={config.cells} lists more than sweep.max_cells={most:,}")
    if config.cells and not entries:
        raise ConfigError(f"cells={config.cells} lists no cell; give a header and a line for each")

    cells: list[Listed] = []
    names: list[str] = []
    numbers: Counter[str] = Counter()
    for where, entry in entries:
        with naming(where):
            cell, call = _with_call(entry, path.stem, numbers)
            _check_keys(cell)
        names.append(f"{call.workload}.{call.name}" if call else "")
        if not (given and config.call) or config.call in (names[-1], call and call.name):
            cells.append((where, cell))
    if given and not cells and config.call:
        named = [name.partition(".")[2] for name in names if name]
        raise unknown(f"call={one_line(config.call, 60)} is none", config.call, named)
    return cells


def _of_workloads(workloads: Any) -> Iterator[Listed]:
    """The calls of each, with its name and what it says for all of them."""
    for name, workload in workloads.items():
        if not isinstance(workload, Mapping) or not isinstance(workload.get("calls"), list):
            advice = "write NAME: {dtype: float32, calls: [...]}"
            raise ConfigError(f"workload {one_line(name, 60)}: calls are missing; {advice}")
        for number, call in enumerate(workload["calls"], start=1):
            if not isinstance(call, Mapping):
                raise ConfigError(f"workload {name}, call {number}: it is no mapping of fields")
            entry = {"workload": str(name), **call}
            if "function" in call and "dtype" in workload:
                entry = {"dtype": workload["dtype"], **entry}
            yield f"workload {name}, call {number}", entry


def _with_call(
    entry: Mapping[str, Any], file: str, numbers: Counter[str]
) -> tuple[Mapping[str, Any], Call | None]:
    """An entry as the keys of a cell, and its call, if it says that it is one of a workload.

    A call without a name gets that of its function, and a number; one without a workload is of its
    ``file``.
    """
    is_function = entry.get("function") is not None
    own = [key for key in entry if key in OF_CALL or (is_function and not _is_key(key))]
    of_call = {key: entry[key] for key in own if entry[key] is not None}
    if not is_function:
        of_call.pop("dtype", None)  # which is the cell's
    if not {"function", "count", "workload"} & of_call.keys():
        if needless := of_call.keys() - {*COLUMNS}:
            raise ConfigError(f"missing field function, which {', '.join(sorted(needless))} is of")
        return entry, None
    others = {k: value for k, value in entry.items() if k not in of_call and value is not None}
    if not is_function and not others.get("op"):
        raise ConfigError("missing field function; a call says its function, args and outputs")
    called = str(of_call.get("function", others.get("op"))).removeprefix("torch.ops.aten.")
    base = re.sub(r"\W+", "_", called.removesuffix(".default"))
    numbers[base] += 1
    usual = {"workload": re.sub(r"[^\w-]+", "_", file), "name": f"{base}_{numbers[base]}"}
    call = Call.of({**usual, **of_call})
    return {**others, "call": call.text}, call


def _of_list(entries: Any) -> Iterator[Listed]:
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, Mapping) or not entry:
            raise ConfigError(f"zip: {one_line(entry, 60)} is no cell; write {PAIRS}")
        yield f"zip, cell {number}", entry


def _of_file(path: Path) -> Iterator[Listed]:
    """A line a cell: a CSV with a header, in which what is blank is left out, or JSON objects."""
    what = f"cells={path}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            read = _of_json if path.suffix in (".jsonl", ".json") else _of_csv
            for number, cell in read(bounded_lines(file)):
                yield f"{what}, line {number}", cell
    except OSError as error:
        raise ConfigError(f"{what} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        advice = "give a CSV with a header, or a .jsonl file with an object a line"
        raise ConfigError(
            f"{what} is no list of cells: {one_line(error, 100)}; {advice}"
        ) from error


def _of_csv(lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(lines, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if len(set(header)) < len(header):
        raise ValueError("a column is there twice")
    for line in reader:
        if len(line) not in (0, len(header)):
            raise ValueError(f"line {reader.line_num} has {len(line)} entries, not {len(header)}")
        cell = {key: text.strip() for key, text in zip(header, line, strict=False) if text.strip()}
        if cell:
            yield reader.line_num, cell


def _of_json(lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        cell = json.loads(line) if line.strip() else {}
        if not isinstance(cell, dict):
            raise ValueError(f"line {number} is no object")
        if cell:
            yield number, {key: value for key, value in cell.items() if value is not None}


def _check_keys(cell: Mapping[str, Any]) -> None:
    for key, value in cell.items():
        if not _is_key(key):
            raise unknown(f"{one_line(key, 60)} is no key of a cell", key, COLUMNS)
        # Hydra takes the last of several op files without a word; a size may be a list of lengths
        if isinstance(value, list) and "." not in key and key != "size":
            several = f"{key}={one_line(value, 60)} is a list, and a cell has one {key}"
            raise ConfigError(f"{several}; write an entry for each, as in {PAIRS}")


def _is_key(key: str) -> bool:
    group, dot, _ = key.partition(".")
    return key in COLUMNS or key == "timing" or bool(dot and group in GROUPS)
