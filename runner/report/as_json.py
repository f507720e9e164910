"""What a command found, as JSON on standard output; what people read goes to standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cells.cell import Cell
from runner.config.axes import AXES
from runner.config.schema import JSON
from runner.rows.rows import Row

if TYPE_CHECKING:  # it is of what makes reports, which no dry run needs
    from runner.report.conclude import Run


@contextmanager
def for_programs(output: str) -> Iterator[bool]:
    """Have what is printed meanwhile go to standard error, where ``output`` is JSON; whether it is.

    What programs read is to be printed afterwards.
    """
    is_json = output == JSON
    with redirect_stdout(sys.stderr if is_json else sys.stdout):
        yield is_json


def run_as_json(root: Path, exit_code: int, run: Run) -> str:
    """What a run's folder holds: its rows, and the exit code that they mean."""
    rows = [_of_row(row) for row in chain.from_iterable(run.rows_of_job.values())]
    found = {"folder": str(root), "exit_code": exit_code, "damaged": run.damaged, "rows": rows}
    return json.dumps(found, allow_nan=False)


def cells_as_json(cells: Sequence[Cell], left_out: int) -> str:
    """What a dry run lists: each cell, with why it cannot run where it cannot."""
    listed = [
        {
            "cell": cell.identity,
            "job": cell.job,
            **{name: getattr(cell, name) for name in AXES},
            "case": cell.case.name if cell.case else None,
            "inputs": cell.inputs or None,
            "impossible": cell.infeasible_reason or None,
        }
        for cell in cells
    ]
    return json.dumps({"cells": listed, "left_out": left_out}, allow_nan=False)


def _of_row(row: Row) -> Mapping[str, Any]:
    """A row by its columns: null where blank; those that an op file adds are in ``own``."""
    values = {name: _plain(value) for name, value in asdict(row).items()}
    if isinstance(own := values.get("own"), str):
        values["own"] = json.loads(own, parse_constant=str)
    return values


def _plain(value: object) -> object:
    """A value as JSON has it, which has no number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
