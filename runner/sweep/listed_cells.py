"""Cells given one by one, ``zip=[...]`` or ``cells=FILE``, instead of a product of axes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from runner.cells.grid import plain
from runner.config.axes import AXES
from runner.errors import ConfigError, naming, one_line, unknown
from runner.files import bounded_lines

KEYS = ("zip", "cells")
"""The keys of the configuration that list cells."""
COLUMNS = (*(name for name, axis in AXES.items() if axis.has_key), "case", "job")
GROUPS = ("timing", "limit", "op")  # of which a column may be a key, such as op.kwargs.dim

Listed = tuple[str, Mapping[str, Any]]
"""Where a cell is listed, and its value of each key; a key that it does not have is left out."""


def listed_cells(config: DictConfig) -> list[Listed]:
    """What the configuration lists; nothing where it lists no cells.

    Raises:
        ConfigError: the list or the file is none, or has a column that is no key of a cell.
    """
    if config.zip and config.cells:
        raise ConfigError("zip= and cells= both list cells; give one of them")
    found = _of_file(Path(str(config.cells))) if config.cells else _of_list(plain(config.zip))
    most = config.sweep.max_cells
    cells = list(islice(found, most + 1))
    if len(cells) > most:
        raise ConfigError(f"cells={config.cells} lists more than sweep.max_cells={most:,}")
    if config.cells and not cells:
        raise ConfigError(f"cells={config.cells} lists no cell; give a header and a line for each")
    for where, cell in cells:
        with naming(where):
            _check_keys(cell)
    return cells


def _of_list(entries: Any) -> Iterator[Listed]:
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, Mapping):
            example = "write [{op: matmul, size: 64}, {op: add, size: 128}]"
            raise ConfigError(f"zip: {one_line(entry, 60)} is no cell; {example}")
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
    for key in cell:
        group, dot, _ = key.partition(".")
        if key not in COLUMNS and not (dot and group in GROUPS) and key != "timing":
            raise unknown(f"{one_line(key, 60)} is no key of a cell", key, COLUMNS)
