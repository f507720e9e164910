"""What a run's process is started with."""

import os

import pytest

from runner.cells.cell import CUBLAS
from runner.execute.cell_runner import CellRunner
from tests.support.factories import cell


@pytest.mark.slow
def test_what_deterministic_products_need_is_there_when_the_process_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CUBLAS[0], "")  # so that it is put back
    monkeypatch.delenv(CUBLAS[0])
    runner = CellRunner(lambda: None)
    try:
        runner.prepare([cell(), cell(deterministic=True)], require_devices=False)
        assert CUBLAS[0] not in runner.environment["variables"]  # the CPU needs none
        cells = [cell(), cell(deterministic=True, device="gpu")]
        runner.prepare(cells, require_devices=False)
        assert runner.environment["variables"][CUBLAS[0]] == os.environ[CUBLAS[0]] == CUBLAS[1]
    finally:
        runner.close()
