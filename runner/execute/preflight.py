"""What the worker checks before a sweep's first cell: the machine, the devices, the callables."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from runner.calls.whole_model import check_model
from runner.config.cases import Case
from runner.config.operation import Operation
from runner.errors import ConfigError
from runner.execute.user_code import describe_code, packages_of
from runner.execute.worker_process import Preflight
from runner.measure.device import Device, DeviceUnavailable, find_device
from runner.measure.host_memory import free_memory_bytes
from runner.measure.precision import precision_modes
from runner.rows.rows import BenchmarkRow
from runner.tasks.noise import calibrations
from runner.tasks.task import WorkerState

# of the environment, by how their names begin
VARIABLES = (
    *("OMP_", "MKL_", "KMP_", "GOMP_", "TORCH_", "PYTORCH_"),
    *("CUDA_", "CUBLAS_", "NVIDIA_TF32", "HIP_", "ROCR_", "ZE_", "ONEAPI_DEVICE"),
)


def preflight(
    state: WorkerState,
    definitions: Sequence[Operation | Case],
    device_names: Sequence[str],
    backend_module: str | None,
) -> Preflight:
    """Import what operations and cases call, and find the devices."""
    problems: list[str] = []
    unavailable: dict[str, str] = {}
    devices: dict[str, Device] = {}

    switches = state.switches  # as they were before anything of the user's is imported
    # every problem is reported at once, so that nobody has to come back for the next one
    for definition in definitions:
        try:
            with switches.importing(definition.package):
                definition.load()
                if isinstance(definition, Operation):
                    definition.load_reference()
                    if definition.passes and definition.inputs_from:  # to be traced
                        check_model(definition, free_memory_bytes())
            taken = {column.name for column in fields(BenchmarkRow)}
            for name in sorted(taken.intersection(getattr(definition, "columns", ()))):
                problems.append(f"op {definition.name}: columns.{name}: is a column already")
        except ConfigError as error:
            problems.append(str(error))
    for name in device_names:
        try:
            with switches.importing(backend_module or "", of_device=True):
                devices[name] = find_device(name, backend_module, state.devices)
        except DeviceUnavailable as error:
            unavailable[name] = str(error)
        except ConfigError as error:  # of the backend's module, and so of every device
            problems.append(str(error))
            break

    names = {name: str(device.torch) for name, device in devices.items()}
    packages = [packages_of(definition, backend_module) for definition in definitions]
    machine = _described(list(devices.values()))
    machine["code"] = describe_code(set().union(*packages))
    return Preflight(machine, names, unavailable, problems, switches.is_spoiled)


def _described(devices: list[Device]) -> dict[str, Any]:
    """The part that only a process with torch can tell, of the devices that are used."""
    packages = ("hydra-core", "omegaconf", "numpy", "pandas", "triton")
    return {
        "python": platform.python_version(),
        "packages": {package: _version_of(package) for package in packages},
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)},
        "torch": {
            # its own type would have the parent process import torch
            "version": str(torch.__version__),
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
        "precision": precision_modes(),
        "devices": [device.identity() for device in devices],
        "calibration": calibrations([device.name for device in devices]),
    }


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
