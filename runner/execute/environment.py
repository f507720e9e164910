"""What a run was made with, for ``environment.json``: the machine, torch, the code, the command."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from runner import __version__
from runner.measure.host_memory import values_in
from runner.measure.noise_sources import noise_sources
from runner.rows.environment_file import DECISIVE

COMPILERS = ("CXX", "CC", "g++", "clang++", "gcc", "nvcc")


def node_identity() -> str:
    """This machine's name, and a short hash of what of it times depend on, not a job's share."""
    memory = (values_in("/proc/meminfo", "MemTotal") or ["0"])[0]
    tables = Path("/proc/driver/nvidia/gpus").glob("*/information")
    hardware = (
        platform.machine(),
        os.cpu_count(),
        values_in("/proc/cpuinfo", "model name")[:1],
        round(int(memory.split()[0]) / 2**20),  # GiB
        sorted(chain.from_iterable(values_in(table, "Model") for table in tables)),
    )
    digest = hashlib.sha256(repr(hardware).encode()).hexdigest()[:6]
    return f"{platform.node() or 'unnamed'}-{digest}"


def describe_process() -> dict[str, Any]:
    """The part that needs no torch: host, the state of the code, the command."""
    checkout, has_affinity = Path(__file__).parents[2], hasattr(os, "sched_getaffinity")
    return {
        "opsweep": __version__,
        "command": [sys.executable, *sys.argv],
        "folder": os.getcwd(),
        "node": node_identity(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": {
            "name": platform.node(),
            "system": platform.platform(),
            "machine": platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
            "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        },
        "noise_sources": noise_sources(),
        # installed: the folder's repository, if any, is somebody else's
        "git": git_state(checkout) if (checkout / ".git").exists() else None,
        "compilers": {name: shutil.which(os.environ.get(name, name)) for name in COMPILERS},
    }


def identity_of(environment: dict[str, Any]) -> str:
    """A short hash of what of a described environment could make a cell end otherwise."""
    kept = {key: environment.get(key) for key in DECISIVE}
    text = json.dumps(kept, sort_keys=True, default=str)
    return f"e{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def git_state(folder: Path, files: Iterable[str] = ()) -> dict[str, Any] | None:
    """The checkout that a folder is in; None where it is in none.

    It is its ``commit``, whether what git tracks has ``changed`` since, and which of these files
    below the folder are ``not_in_git``, so that neither of the two says anything of them.
    """
    # as Python does itself, a name of a file may be other bytes than text
    text = {"text": True, "errors": "surrogateescape"}
    git = partial(subprocess.run, capture_output=True, timeout=10, check=True, **text)
    try:
        commit = git(["git", "-C", str(folder), "rev-parse", "HEAD"]).stdout.strip()
        status = ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"]
        state: dict[str, Any] = {"commit": commit, "changed": bool(git(status).stdout.strip())}
        if names := set(files):
            tracked = git(["git", "-C", str(folder), "ls-files", "-z", "--recurse-submodules"])
            state["not_in_git"] = sorted(names.difference(tracked.stdout.split("\0")))
        return state
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
