"""The op files of PyTorch's own operators, ``op=opinfo:NAME``. torch is imported elsewhere."""

from __future__ import annotations

import subprocess
import sys

from runner.errors import ConfigError, one_line, tell

PREFIX = "opinfo:"
EVERY = f"{PREFIX}*"  # stands for each of them in a sweep
EXTRA = "'opsweep[opinfo]'"
DATABASE = "torch.testing._internal.common_methods_invocations"
LISTING = f"from {DATABASE} import op_db; print(*(info.formatted_name for info in op_db))"
OPERATORS = "runner.calls.operator_database.operators"


def op_file(choice: str) -> dict[str, object]:
    """The fields of an operator's file."""
    name = choice.removeprefix(PREFIX).replace(".", "_")
    operator = f"{OPERATORS}.{name}"
    return {
        "name": f"{PREFIX}{name}",
        "description": "an operator of PyTorch's database; size is the number of its sample",
        "call": operator,
        "inputs_from": f"{operator}.sample",
        "signature": "* -> *",
        "size": 1,
        "dtypes": ["floating", "integer", "complex", "bool"],
        "tolerance": "rounding",
    }


def every_operator() -> str:
    """What ``opinfo:*`` stands for: each operator. ConfigError where there is no database."""
    tell("listing PyTorch's operators ...")
    command = [sys.executable, "-c", LISTING]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        why = one_line(listed.stderr.strip().rpartition("\n")[2], 160)
        raise ConfigError(
            f"op={EVERY} needs what torch.testing imports ({why}); pip install {EXTRA}"
        )
    return ",".join(PREFIX + name for name in dict.fromkeys(listed.stdout.split()))
