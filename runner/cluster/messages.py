"""What a job says of its chunk: lines of JSON in a file, which a reader takes for data alone.

The file outlives the driver, so that a later one reads what jobs have measured meanwhile.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from runner.rows.columns import packed, unpacked
from runner.rows.rows import ROW_OF_JOB, Row


class Ending(str, Enum):
    """How a job ends; one that was terminated is back if the queue takes it again."""

    DONE = "done"
    REFUSED = "refused"
    RAISED = "raised"
    OUT_OF_TIME = "out of time"
    PREEMPTED = "preempted"
    TERMINATED = "terminated"


@dataclass(frozen=True)
class ChunkStarted:
    """A chunk has begun on this node, which ``environment.json`` describes."""

    node: str
    environment: dict[str, Any]


@dataclass(frozen=True)
class CellResult:
    """A cell, by its identity, has ended; samples and pairs are the texts of its CSVs, or blank."""

    cell: str
    rows: list[Row]
    samples: str
    log: str
    ended: str
    pairs: str = ""


@dataclass(frozen=True)
class JobEnded:
    """A job's last message: how it ended, and more in a text."""

    how: str
    text: str = ""
    place: str = ""  # the cluster's name of the node
    of_node: bool = False  # whether the node could run nothing, and not these operations alone


Message = ChunkStarted | CellResult | JobEnded
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (ChunkStarted, CellResult, JobEnded)}
TYPES = {"str": str, "bool": bool, "dict[str, Any]": dict, "list[Row]": list}


def append(path: Path, message: Message) -> None:
    """Add a message to a file, and wait until it is on the disk; FileNotFoundError: it is gone."""
    said: dict[str, Any] = {"kind": type(message).__name__, **vars(message)}
    if isinstance(message, CellResult):
        said |= {"job": message.rows[0].job, "rows": packed(message.rows)}
    # the line begins with an end: whoever wrote last may have been killed in the middle
    line = f"\n{json.dumps(said, default=str)}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
    with open(descriptor, "wb", buffering=0) as file:
        file.write(line)
        os.fsync(file.fileno())


def read(path: Path, start: int = 0) -> tuple[list[Message], int]:
    """The messages that stand in a file whole, from a byte on, and where the next will begin."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            text = file.read()
    except FileNotFoundError:
        return [], start
    whole = text[: text.rfind(b"\n") + 1]
    messages = (_message(line) for line in whole.splitlines())
    return [message for message in messages if message is not None], start + len(whole)


def _message(line: bytes) -> Message | None:
    """The message of a line; None where it is none, so that its cell runs again."""
    try:
        said = json.loads(line)
        kind = KINDS[said.pop("kind")]
        if kind is CellResult:
            said["rows"] = unpacked(ROW_OF_JOB[said.pop("job")], said["rows"])
        message: Message = kind(**said)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    types = [TYPES[str(field.type)] for field in fields(kind)]
    is_sound = all(map(isinstance, vars(message).values(), types))
    return message if is_sound and said.get("rows") != [] else None
