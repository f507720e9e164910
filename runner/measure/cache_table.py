"""Tables that runs leave for later ones: CSVs in a user's folder for caches."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock

from runner.files import bounded_lines, is_own, write_atomically
from runner.rows.csv_store import csv_text

Record = TypeVar("Record")
PARSE: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}


class CacheTable(Generic[Record]):
    """A table of such records, which are dataclasses of texts and numbers, a line each."""

    def __init__(
        self,
        name: str,
        record: Callable[..., Record],
        can_be: Callable[[Record], bool],
        key: Callable[[Record], Any],
    ) -> None:
        self._name, self._record, self._can_be, self._key = name, record, can_be, key
        self._fields: dict[str, str] = {f.name: str(f.type) for f in fields(record)}  # type: ignore[arg-type]  # a dataclass
        self._seen: tuple[object, list[Record]] = None, []  # which file had which records

    @property
    def path(self) -> Path:
        """Its file: below ``XDG_CACHE_HOME``, or where the system has its caches."""
        base = os.environ.get("XDG_CACHE_HOME")
        if not base and sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA")
        return Path(base or Path.home() / ".cache") / "opsweep" / self._name

    def read(self) -> list[Record]:
        """All records that can be; a file that is not there, or is another's, holds none.

        One that has not changed since is not read again.
        """
        try:
            status = self.path.stat()
        except OSError:
            return []
        times = status.st_mtime_ns, status.st_ctime_ns
        file = self.path, *times, status.st_size, status.st_ino
        if self._seen[0] != file:
            self._seen = file, self._read()
        return list(self._seen[1])

    def _read(self) -> list[Record]:
        records: list[Record] = []
        with suppress(OSError, ValueError, TypeError, csv.Error):
            if not is_own(self.path):
                return []
            with self.path.open(newline="", encoding="utf-8") as file:
                for line in csv.DictReader(bounded_lines(file)):
                    with suppress(ValueError, TypeError, KeyError):
                        values = (PARSE[kind](line[name]) for name, kind in self._fields.items())
                        records.append(self._record(*values))
        return list(filter(self._can_be, records))

    def put(
        self,
        record: Record,
        *,
        patience_s: float,
        keep: Callable[[list[Record]], Sequence[Record]] = lambda others: others,
        durable: bool = True,
    ) -> Path:
        """Add a record to those to ``keep`` of the others, while nobody else does; the file.

        OSError where it cannot be written, or is locked for so long.
        """
        path = self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=patience_s):
            others = [other for other in self._read() if self._key(other) != self._key(record)]
            records = sorted([*keep(others), record], key=self._key)
            table = [list(self._fields), *map(astuple, records)]  # type: ignore[arg-type]  # a dataclass
            write_atomically(path, csv_text(table), durable=durable)
        return path
