"""What a run was made with: the machine, torch, the switches, the code and the command. For ``environment.json``."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import __version__

if TYPE_CHECKING:
    from runner.measure.device import Device

# of the environment, by how they begin
VARIABLES = (
    "OMP_",
    "MKL_",
    "KMP_",
    "CUDA_",
    "TORCH_",
    "PYTORCH_",
    "GOMP_",
)


def describe_machine(devices: list[Device]) -> dict[str, Any]:
    """The part that only a process with torch can tell.

    Args:
        devices: those that were asked for and are here.
    """
    import torch

    from runner.measure.precision import precision_modes

    return {
        "torch": {
            "version": str(
                torch.__version__
            ),  # its own type would have the parent process import torch
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
    memory = (_values_in("/proc/meminfo", "MemTotal") or ["0"])[0]
    hardware = (
        platform.machine(),
        os.cpu_count(),
        _values_in("/proc/cpuinfo", "model name")[:1],
        round(int(memory.split()[0]) / 2**20),  # GiB
        _nvidia_models(),
    )
    digest = hashlib.sha256(repr(hardware).encode()).hexdigest()[:6]
    return f"{platform.node() or 'unnamed'}-{digest}"


def describe_process() -> dict[str, Any]:
    """The part that needs no torch: host, Python, versions, the git state of the folder, the command."""
    return {
        "opsweep": __version__,
        "command": [sys.executable, *sys.argv],
        "folder": os.getcwd(),
        "node": node_identity(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": _describe_host(),
        "python": platform.python_version(),
        "packages": {
            package: _version_of(package)
            for package in ("hydra-core", "omegaconf", "numpy", "pandas")
        },
        "git": _git_state(),
        "variables": {
            key: value for key, value in sorted(os.environ.items()) if key.startswith(VARIABLES)
        },
    }


def _describe_host() -> dict[str, Any]:
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq"
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cpu_governor": _first_line(f"{cpu}/scaling_governor"),
        "cpu_frequency_khz": _first_line(f"{cpu}/scaling_cur_freq"),
    }


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of this package's checkout; None where it is not one."""
    package = Path(__file__).parents[1]
    if not (
        package.parent / ".git"
    ).exists():  # installed: the folder's repository, if any, is somebody else's
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _nvidia_models() -> list[str]:
    tables = Path("/proc/driver/nvidia/gpus").glob("*/information")
    return sorted(chain.from_iterable(_values_in(str(table), "Model") for table in tables))


def _values_in(path: str, key: str) -> list[str]:
    """The values of a key in one of the kernel's tables of ``key: value``."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return []
    entries = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in entries if name.strip() == key]


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
