"""What a run was made with: the machine, torch, the switches, the code and the command. For ``environment.json``."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import __version__

if TYPE_CHECKING:
    from runner.measure.device import Device


def describe_machine(devices: list[Device]) -> dict[str, Any]:
    """The part that only a process with torch can tell.

    Args:
        devices: those that were asked for and are here.
    """
    import torch

    from runner.measure.precision import precision_modes

    return {
        "torch": {
            "version": str(torch.__version__),  # its own type would have the door import torch
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
        "precision": precision_modes(),
        "devices": [device.identity() for device in devices],
    }


@lru_cache(maxsize=1)
def node_identity() -> str:
    """This machine's name, and a short hash of what times depend on and a job's share of it does not change."""
    hardware = (
        platform.machine(),
        os.cpu_count(),
        _values_in("/proc/cpuinfo", "model name")[:1],
        round(int((_values_in("/proc/meminfo", "MemTotal") or ["0"])[0].split()[0]) / 2**20),  # GiB
        sorted(
            model
            for path in Path("/proc/driver/nvidia/gpus").glob("*/information")
            for model in _values_in(str(path), "Model")
        ),
    )
    digest = hashlib.sha256(repr(hardware).encode()).hexdigest()[:6]
    return f"{platform.node() or 'unnamed'}-{digest}"


def describe_process() -> dict[str, Any]:
    """The part that the door can tell: host, Python, versions, the git state of the folder, the command."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str | None] = {}
    for package in ("hydra-core", "omegaconf", "numpy", "pandas"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
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
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "cpu_governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "cpu_frequency_khz": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"),
        },
        "python": platform.python_version(),
        "packages": versions,
        "git": _git_state(),
        "variables": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith(("OMP_", "MKL_", "KMP_", "CUDA_", "TORCH_", "PYTORCH_", "GOMP_"))
        },
    }


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of this package's checkout; None where it is not one."""
    here = Path(__file__).parents[1]  # the package
    if not (here.parent / ".git").exists():  # installed: the folder's repository, if any, is somebody else's
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changed.strip())}


def _values_in(path: str, key: str) -> list[str]:
    """The values of a key in one of the kernel's tables of ``key: value``."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key]


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
