"""The host's memory: how much is free, and a limit that a cell cannot pass."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

HEADROOM_BYTES = 512 * 1024**2  # beside tensors, for a cell's stacks, arenas and libraries


def values_in(path: Path | str, key: str) -> list[str]:
    """The values of a key in one of the kernel's tables of ``key: value``; none where it is not."""
    with suppress(OSError), open(path) as file:
        found = re.findall(rf"^[ \t]*{re.escape(key)}[ \t]*:(.*)", file.read(), re.MULTILINE)
        return list(map(str.strip, found))
    return []


def free_memory_bytes() -> int | None:
    """Memory of the host that a process could still take; None where the platform does not say."""
    for size in values_in("/proc/meminfo", "MemAvailable"):
        return _bytes(size)
    # Windows has no sysconf, macOS no such name
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def memory_reading(name: str) -> int | None:
    """A reading of this process in bytes: VmRSS, or VmHWM, the most since the last reset."""
    return next(map(_bytes, values_in("/proc/self/status", name)), None)


def _bytes(size: str) -> int:
    """What ``16 kB`` is in a table of the kernel's."""
    return int(size.split(maxsplit=1)[0]) * 1024


def reset_high_water_mark() -> None:
    """Forget the most that this process has had, where the platform can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def limit_memory(more_bytes: int | None) -> None:
    """Have allocations fail beyond what the process has now and so many bytes; None: no limit.

    The limit is on the address space, so that the allocator is refused and says so, rather than the
    kernel ending the process. Where the platform has none (Windows, in part macOS) nothing happens.
    """
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = hard
        if more_bytes is not None:
            now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            soft = now + more_bytes + HEADROOM_BYTES
            if hard != resource.RLIM_INFINITY:
                soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
