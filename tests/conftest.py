"""What the tests share: the runner as a user starts it, and one run that many of them read."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pandas as pd
import pytest
from filelock import FileLock

from runner.execute import device_lock

ROOT = Path(__file__).parents[1]
Runner = Callable[..., subprocess.CompletedProcess[str]]
LONGEST_S = 3_600
"""Of a command: so long that only one that never ends takes it, however busy the machine."""
PATIENT = "limit.time_s=900"
"""Of cells that have to end by themselves, or that somebody ends."""
ASKING = ("--help", "--cfg", "--info", "job=report", "job=compare", "dry_run=true")
"""What is in commands that run no cell."""

FIRST = (
    "verify/test_gradients.py",
    "tasks/test_case_autograd.py",
    "report/test_page.py",
    "tasks/test_checks.py",
    "measure/test_detectors.py",
    "api/test_measuring.py",
    "cli/test_hydra_errors.py",
    "end_to_end/test_folders.py",
    "end_to_end/test_own_operations.py",
    "api/test_runs.py",
    "cli/test_command_line.py",
    "config/test_bounds.py",
)
"""The files that take longest; one worker runs all of a file."""
LAST = ("analysis", "config", "stats")
"""Rooms whose files take least, with which both workers end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long files to the workers first, and short ones last."""

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(ROOT / "tests")
        if file.as_posix() in FIRST:
            return FIRST.index(file.as_posix()) - len(FIRST)
        return int(file.parts[0] in LAST)

    items.sort(key=place)


too_slow = hypothesis.HealthCheck.too_slow
hypothesis.settings.register_profile(
    "on any machine", deadline=None, suppress_health_check=[too_slow]
)
hypothesis.settings.load_profile("on any machine")


@pytest.fixture(scope="session", autouse=True)
def _not_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What several tests share leaves the user's peaks alone, and waits for no sweep of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("locks")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(device_lock, "FOLDER", tmp_path_factory.mktemp("devices"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _answering() -> None:
    """What answers commands begins before any test: some have this process adopt and end others."""
    from tests.support.commands import answering  # which imports this

    answering(ROOT)


@pytest.fixture(autouse=True)
def _machine_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test's sweeps see only each other.

    Locks live among temporary files, roofs in a cache.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of this process leave no ``figures/``, whose drawing takes most of their time."""
    monkeypatch.setattr("runner.report.summary.draw_figures", lambda *of_run: None)


def make_runner(folder: Path, root: Path = ROOT) -> Runner:
    """``python -m runner`` of a checkout, in a folder; an exit code not expected is shown.

    A cell has minutes where no limit is given: what is here in a second takes half a minute on a
    machine that is busy.
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
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "80", **(env or {})},
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
def runner(tmp_path: Path) -> Runner:
    """``python -m runner`` in an empty folder, see :func:`make_runner`."""
    return make_runner(tmp_path)


@pytest.fixture
def rows(runner: Runner, tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """The rows that a command leaves, from its ``results.csv`` or another file."""

    def run(*arguments: str, file: str = "results.csv", code: int | None = 0) -> pd.DataFrame:
        out = tmp_path / "out"
        runner(*arguments, f"hydra.run.dir={out}", f"hydra.sweep.dir={out}", code=code)
        return pd.read_csv(out / file)

    return run


SMOKE = ("+sweep=smoke", "op=add", "size=16", "threads=1,2", "report.baseline={threads: 1}")
"""Eight cells: two dtypes, two devices of which one may be absent, two numbers of threads."""


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished sweep, :data:`SMOKE`, which nobody may change.

    It is ``out`` in a folder in which the process's output lies too, as ``said.json``.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # all of pytest's processes share it
        base = base.parent
    folder = base / "smoke"
    with FileLock(base / "smoke.lock"):
        if not (folder / "said.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            own = {"TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder)}
            done = make_runner(folder)(*SMOKE, "hydra.sweep.dir=out", env=own)
            said = {"stdout": done.stdout, "stderr": done.stderr}
            (folder / "said.json").write_text(json.dumps(said))
    return folder / "out"


@pytest.fixture
def smoke_copy(smoke: Path, tmp_path: Path) -> Path:
    """A copy of that sweep's folder, for a test that changes it."""
    return Path(shutil.copytree(smoke, tmp_path / "out"))
