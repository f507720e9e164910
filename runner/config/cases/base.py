"""What every case has. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from runner.config.dtypes import KIND_OF


@dataclass(frozen=True)
class Case:
    """What every case has."""

    job: ClassVar[str]
    name: str  # as results name it; the file's name
    description: str = ""  # one line for people
    hint: str = ""  # what a failing check adds, where the reason is known

    @property
    def dtype(self) -> str:
        """The dtype where the user gives none."""
        return "float64"

    @property
    def size(self) -> str:
        """The shape as results show it."""
        raise NotImplementedError

    @property
    def package(self) -> str:
        """What is imported to have the function; torch, where it is none of the user's."""
        return str(getattr(self, "function", "torch")).partition(".")[0]

    def load(self) -> Callable[..., Any] | None:
        """Import what it calls; ConfigError where there is no such function."""
        raise NotImplementedError

    def problem(self, dtype: str) -> str:
        """Why it cannot be checked in this dtype; blank where it can."""
        if KIND_OF[dtype] == "floating":
            return ""
        return f"case {self.name} has a gradient in floating dtypes alone, not in {dtype}"

    def check(self) -> None:
        """Check what the fields mean together; ConfigError where they do not fit."""
