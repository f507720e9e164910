"""What the tests share: the runner as a user starts it, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
Runner = Callable[..., subprocess.CompletedProcess[str]]
LONGEST_S = (
    900  # of a command: so long that only one that never ends takes it, however busy the machine
)
PATIENT = (
    f"limit.time_s={LONGEST_S}"  # of cells that have to end by themselves, or that somebody ends
)
ASKING = ("--help", "--cfg", "--info", "job=report", "dry_run=true")  # commands that run no cell

too_slow = hypothesis.HealthCheck.too_slow
hypothesis.settings.register_profile(
    "on any machine", deadline=None, suppress_health_check=[too_slow]
)
hypothesis.settings.load_profile("on any machine")


@pytest.fixture(autouse=True)
def _machine_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test's sweeps see only each other: device locks live among temporary files, roofs among caches."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """``python -m runner`` with these arguments, in an empty folder; exits that were not expected are shown.

    A cell has minutes where no limit is given: what is here in a second takes half a minute on a machine that is busy.
    """

    def run(
        *arguments: str,
        code: int | None = 0,
        env: dict[str, str] | None = None,
        limit: str = PATIENT,
    ) -> subprocess.CompletedProcess[str]:
        limited = code == 2 or any(
            word.startswith(("limit.time_s=", *ASKING)) for word in arguments
        )
        done = subprocess.run(
            [sys.executable, "-m", "runner", *arguments, *[limit] * (bool(limit) and not limited)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **(env or {})},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        assert code is None or done.returncode == code, (
            f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    return run


@pytest.fixture
def rows(runner: Runner, tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """The rows that a command leaves, from its ``results.csv`` or another file."""

    def run(*arguments: str, file: str = "results.csv", code: int | None = 0) -> pd.DataFrame:
        out = tmp_path / "out"
        runner(*arguments, f"hydra.run.dir={out}", f"hydra.sweep.dir={out}", code=code)
        return pd.read_csv(out / file)

    return run
