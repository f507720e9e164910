"""What the worker checks before a sweep's first cell: the machine, the devices, the callables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from runner.calls.whole_model import check_model
from runner.config.cases import Case
from runner.config.operation import Operation
from runner.errors import ConfigError
from runner.execute.environment import describe_machine
from runner.execute.user_code import describe_code, packages_of
from runner.execute.worker_process import Preflight
from runner.measure.device import Device, DeviceUnavailable, find_device
from runner.measure.host_memory import free_memory_bytes
from runner.measure.switches import of_this_worker
from runner.rows.rows import BenchmarkRow


def preflight(
    definitions: Sequence[Operation | Case], device_names: Sequence[str], backend_module: str | None
) -> Preflight:
    """Import what operations and cases call, and find the devices."""
    problems: list[str] = []
    unavailable: dict[str, str] = {}
    devices: dict[str, Device] = {}

    # every problem is reported at once, so that nobody has to come back for the next one
    switches = of_this_worker()  # before anything of the user's is imported
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
                devices[name] = find_device(name, backend_module)
        except DeviceUnavailable as error:
            unavailable[name] = str(error)
        except ConfigError as error:  # of the backend's module, and so of every device
            problems.append(str(error))
            break

    names = {name: str(device.torch) for name, device in devices.items()}
    packages = [packages_of(definition, backend_module) for definition in definitions]
    machine = describe_machine(list(devices.values()))
    machine["code"] = describe_code(set().union(*packages))
    return Preflight(machine, names, unavailable, problems, switches.is_spoiled)
