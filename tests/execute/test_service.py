"""What the worker's process does not need."""

import subprocess
import sys

from tests.conftest import LONGEST_S, ROOT

CODE = "import runner.execute.service, sys; print(*sys.modules, sep='\\n')"
OF_THE_DRIVER = {"hydra", "omegaconf", "antlr4", "yaml", "pandas", "matplotlib"}


def test_a_worker_imports_nothing_that_reads_configurations() -> None:
    command = [sys.executable, "-c", CODE]
    imported = subprocess.check_output(command, cwd=ROOT, text=True, timeout=LONGEST_S).split()
    assert "torch" in imported
    assert not OF_THE_DRIVER.intersection(imported)
