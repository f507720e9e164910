"""The host's memory: how much is free, and a limit that a cell cannot pass."""

from __future__ import annotations

import os
from pathlib import Path

# beside a cell's tensors, for the stacks, arenas and libraries that it brings in
HEADROOM_BYTES = 512 * 1024**2


def free_memory_bytes() -> int | None:
    """Memory of the host that a process could still take; None where the platform does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, macOS no such name
        return None


def limit_memory(more_bytes: int | None) -> None:
    """Have the process's allocations fail beyond what it has now and so many bytes; None takes the limit away.

    The limit is on the address space, so that the allocator is refused and says so, rather than the
    kernel ending the process. Where the platform has none (Windows, in part macOS) nothing happens.
    """
    try:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = hard
        if more_bytes is not None:
            now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            soft = now + more_bytes + HEADROOM_BYTES
            if hard != resource.RLIM_INFINITY:
                soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    except (ImportError, OSError, ValueError, AttributeError):
        return
