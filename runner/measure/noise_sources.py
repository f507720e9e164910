"""A look at what makes this machine noisy, which changes nothing.

What Linux shows may be missing: in containers, on other systems. The report's words say what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PAIR = "timing pair"  # begins what a calibration says, so that it does not stand still in silence


def _share_of_steal(told: str) -> str:
    """The share of the time that was not idle, of a line of ``/proc/stat``."""
    user, nice, system, _, _, *further = map(int, told.split()[:8])
    return f"{100 * further[-1] / max(1, user + nice + system + sum(further)):.1f} %"


class Look(NamedTuple):
    """A file, what of its text tells, and what of that is quiet; both are regular expressions."""

    file: str
    tells: str
    quiet: str
    said: Callable[[str], str] = str  # what is kept of what was told
    # of a control group's file, the lines of ``/proc/self/cgroup`` that name this process's group:
    # what holds for it, or for one that contains it, holds here
    group: str = ""


CPU = "sys/devices/system/cpu"
LOOKS = {
    "governor": Look(f"{CPU}/cpu0/cpufreq/scaling_governor", r"(\w+)", "performance"),
    "boost": Look(f"{CPU}/cpufreq/boost", r"(\d)", "0"),
    "no_turbo": Look(f"{CPU}/intel_pstate/no_turbo", r"(\d)", "1"),
    "smt": Look(f"{CPU}/smt/active", r"(\d)", "0"),
    "cpu_quota": Look("sys/fs/cgroup/cpu.max", r"(.+)", "max.*", group="0::"),
    "cpu_quota_v1": Look(
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us", r"(-?\d+)", "-1", group=r"\d+:(?:.*,)?cpu(?:,.*)?:"
    ),
    # earlier releases kept the counter, which tells of no share
    "steal": Look("proc/stat", r"cpu +((?:\d+ ){7}\d+)", r"0\.0 %|\d+", _share_of_steal),
    "running": Look("proc/loadavg", r".* (\d+)/", "1"),
    "isolated": Look(f"{CPU}/isolated", r"(.*)", ".+"),
    "huge_pages": Look(
        "sys/kernel/mm/transparent_hugepage/enabled", r".*\[(\w+)\]", "(?!always).*"
    ),
}


def noise_sources(root: Path = Path("/")) -> dict[str, str | None]:
    """What each look finds, for ``environment.json``; None where nothing tells."""
    return {name: _told(look, root) for name, look in LOOKS.items()}


def _told(look: Look, root: Path) -> str | None:
    """What a look finds: of several files the first that is not quiet."""
    found = None
    for file in _files(look, root):
        with suppress(OSError, UnicodeError):
            told = re.match(look.tells, file.read_text(encoding="utf-8"))
            found = look.said(told[1]) if told else found
            if told and not re.fullmatch(look.quiet, found or ""):
                break
    return found


def _files(look: Look, root: Path) -> list[Path]:
    """The file, in the folder of this process's control group and of each that contains it."""
    path = root / look.file
    if not look.group:
        return [path]
    group = None
    with suppress(OSError, UnicodeError):
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8")
        group = re.search(rf"^{look.group}/(.*)$", groups, re.MULTILINE)
    own = path.parent / (group[1] if group else "")
    above = [folder for folder in own.parents if folder.is_relative_to(path.parent)]
    return [folder / path.name for folder in (own, *above)]


def noisy(found: Mapping[str, object]) -> dict[str, str]:
    """Those of what was found that make a machine noisy."""
    known = {name: value for name in LOOKS if isinstance(value := found.get(name), str)}
    return {
        name: value for name, value in known.items() if not re.fullmatch(LOOKS[name].quiet, value)
    }
