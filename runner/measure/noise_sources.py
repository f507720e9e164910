"""A look at what makes this machine noisy, which changes nothing.

What Linux shows may be missing: in containers, on other systems. The report's words say what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Look(NamedTuple):
    """A file, what of its text tells, and what of that is quiet; both are regular expressions."""

    file: str
    tells: str
    quiet: str


CPU = "sys/devices/system/cpu"
LOOKS = {
    "governor": Look(f"{CPU}/cpu0/cpufreq/scaling_governor", r"(\w+)", "performance"),
    "boost": Look(f"{CPU}/cpufreq/boost", r"(\d)", "0"),
    "no_turbo": Look(f"{CPU}/intel_pstate/no_turbo", r"(\d)", "1"),
    "smt": Look(f"{CPU}/smt/active", r"(\d)", "0"),
    "cpu_quota": Look("sys/fs/cgroup/cpu.max", r"(.+)", "max.*"),
    "steal": Look("proc/stat", r"cpu +(?:\d+ ){7}(\d+)", "0"),
    "running": Look("proc/loadavg", r".* (\d+)/", "1"),
    "isolated": Look(f"{CPU}/isolated", r"(.*)", ".+"),
    "huge_pages": Look(
        "sys/kernel/mm/transparent_hugepage/enabled", r".*\[(\w+)\]", "(?!always).*"
    ),
}


def noise_sources(root: Path = Path("/")) -> dict[str, str | None]:
    """What each look finds, for ``environment.json``; None where nothing tells."""
    found: dict[str, str | None] = dict.fromkeys(LOOKS)
    for name, look in LOOKS.items():
        with suppress(OSError, UnicodeError):
            told = re.match(look.tells, (root / look.file).read_text(encoding="utf-8"))
            found[name] = told and told[1]
    return found


def noisy(found: Mapping[str, object]) -> dict[str, str]:
    """Those of what was found that make a machine noisy."""
    known = {name: value for name in LOOKS if isinstance(value := found.get(name), str)}
    return {
        name: value for name, value in known.items() if not re.fullmatch(LOOKS[name].quiet, value)
    }
