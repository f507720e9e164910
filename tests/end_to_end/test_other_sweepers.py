"""Hydra's own and other sweepers and launchers: reports, exit codes, dry runs, exclusion."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import PATIENT, Runner, make_runner
from tests.support.known_device import BANDWIDTH, MODEL

FUNCTIONS = """
import time

def slept(x):
    n = x.shape[-1]
    if n == 13:
        raise ValueError("thirteen")
    time.sleep(0.0005 * (1 + abs(n - 24)))  # sleep(0) gives the core away where others want it
    return x + 1
"""
OWN = ("op=add", "op.call=functions.slept", "op.signature='... -> ...'", "timing=minimal")
OWN += (PATIENT, "size=1")


def needs(package: str) -> pytest.MarkDecorator:
    """Skips where the extra ``plugins`` is not installed."""
    is_here = importlib.util.find_spec(package) is not None
    reason = f"{package} is not installed: pip install -e '.[plugins]'"
    return pytest.mark.skipif(not is_here, reason=reason)


JOBLIB = pytest.param(
    ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1"), marks=needs("joblib"), id="joblib"
)
WAYS = [
    pytest.param(("hydra/launcher=basic",), id="launcher=basic"),
    pytest.param(("hydra/sweeper=basic",), id="sweeper=basic"),
    pytest.param(("hydra/sweeper=basic", "hydra/launcher=basic"), id="both basic"),
    JOBLIB,
]


@pytest.fixture
def own(tmp_path: Path) -> Runner:
    """``python -m runner`` in a folder with functions of its own."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    return make_runner(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_reports_exit_codes_dry_runs_and_exclusion_hold(
    own: Runner, tmp_path: Path, way: tuple[str, ...]
) -> None:
    words = ("-m", *OWN[:-1], *way, "exclude=[{size: 8}]", "hydra.sweep.dir=out")
    listed = own(*words, "size=8,12,16", "dry_run=true")
    assert "2 cells" in listed.stdout and "8x8" not in listed.stdout
    assert "left out by exclude: 1" in listed.stderr
    assert not (tmp_path / "out").exists()

    done = own(*words, "size=8,12,16")
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(rows["size"]) == ["12x12", "16x16"] and set(rows["status"]) == {"ok"}
    assert "2 rows in out" in done.stdout
    for name in ("report.html", "environment.json", "multirun.yaml"):
        assert (tmp_path / "out" / name).is_file()

    # what is there is not written over
    refused = own(*words, "size=8,12,16", code=2)
    assert "already holds the results of a run" in refused.stderr

    failed = own(*words[:-1], "size=8,13,16", "hydra.sweep.dir=failed", code=1)
    assert "thirteen" in failed.stdout + failed.stderr
    of_failed = pd.read_csv(tmp_path / "failed" / "results.csv").set_index("size")["status"]
    assert of_failed["13x13"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]])
def test_one_json_object_is_all_of_standard_output(own: Runner, way: tuple[str, ...]) -> None:
    done = own("-m", *OWN[:-1], "size=24,25", *way, "output=json", "hydra.sweep.dir=out")
    assert [row["size"] for row in json.loads(done.stdout)["rows"]] == ["24x24", "25x25"]


@needs("joblib")
def test_cells_that_would_run_beside_each_other_are_refused(own: Runner, tmp_path: Path) -> None:
    for way in (("hydra.launcher.n_jobs=2",), (), ("hydra/sweeper=basic",)):
        words = ("-m", *OWN, "seed=1,2", "hydra/launcher=joblib", *way, "hydra.sweep.dir=out")
        refused = own(*words, code=2)
        assert "would time cells while others run beside them" in refused.stderr
        assert "give hydra.launcher.n_jobs=1" in refused.stderr
        assert not (tmp_path / "out").exists()


OPTUNA = ("-m", *OWN[:-1], "hydra/sweeper=optuna", "hydra.sweep.dir=out")


@pytest.mark.slow
@needs("optuna")
def test_optuna_finds_the_size_that_takes_the_least_time(own: Runner, tmp_path: Path) -> None:
    search = ("size=range(8,40,step=4)", "threads=choice(1,2)", "objective=median_s")
    seeded = ("hydra.sweeper.n_trials=20", "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_jobs=1")
    done = own(*OPTUNA, *search, *seeded)
    best = yaml.safe_load((tmp_path / "out" / "optimization_results.yaml").read_text())
    assert best["best_params"]["size"] == 24
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    fastest = rows.loc[rows["median_s"].idxmin()]
    assert fastest["size"] == "24x24"
    assert best["best_value"] == pytest.approx(fastest["median_s"], rel=1.0)
    assert "rows in out" in done.stdout and (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
@needs("optuna")
def test_optuna_finds_the_known_best_of_a_simulated_device(tmp_path: Path) -> None:
    search = ("size=range(192,768,step=64)", "threads=choice(1,2)", "objective=median_s")
    asked = ("op=add", "device=sim", "++op.differentiable=false", "timing=minimal", PATIENT)
    seeded = ("hydra.sweeper.n_trials=20", "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_jobs=1")
    backend = ("backend_module=tests.support.simulated_device", "hydra.sweep.dir=out")
    words = ("-m", "hydra/sweeper=optuna", *asked, *search, *seeded, *backend)
    make_runner(tmp_path)(*words, env={"SIM_CLOCK": "scripted", **MODEL, "SIM_MODEL": "small"})
    best = yaml.safe_load((tmp_path / "out" / "optimization_results.yaml").read_text())
    assert best["best_params"]["size"] == 192
    moved_bytes = 3 * 192 * 192 * 4  # two operands are read, one result is written
    assert best["best_value"] == pytest.approx(moved_bytes / BANDWIDTH, rel=1e-3)


@pytest.mark.slow
@needs("optuna")
def test_a_trial_without_an_objective_fails_and_the_study_may_go_on(
    own: Runner, tmp_path: Path
) -> None:
    search = ("size=choice(13,24)", "objective=median_s", "hydra.sweeper.n_trials=6")
    seeded = ("hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_jobs=1")
    goes_on = own(*OPTUNA, *search, *seeded, "hydra.sweeper.max_failure_rate=1", code=1)
    assert "thirteen" in goes_on.stdout
    best = yaml.safe_load((tmp_path / "out" / "optimization_results.yaml").read_text())
    assert best["best_params"] == {"size": 24}
    rule = "exclude=[{size: 13}]"
    ended = own(*OPTUNA[:-1], *search, *seeded, rule, "hydra.sweep.dir=ended", code=1)
    assert "objective=median_s is blank: it is left out by exclude" in ended.stderr
    # nothing has run, which is no success either
    none = ("exclude=[{op: add}]", "hydra.sweeper.max_failure_rate=1", "hydra.sweep.dir=none")
    empty = own(*OPTUNA[:-1], *search, *seeded, *none, code=2)
    assert "no trial of hydra/sweeper=optuna has a median_s: each failed, or" in empty.stderr
    assert not (tmp_path / "none").exists()


@needs("optuna")
def test_what_a_study_cannot_do_is_said_before_anything_runs(own: Runner, tmp_path: Path) -> None:
    asked = {
        (): "hydra/sweeper=optuna looks for the best of a column; say which, such as",
        ("objective=median_s", "dry_run=true"): "hydra/sweeper=optuna chooses each cell by the",
        ("objective=mediann_s",): "is no column of numbers (did you mean 'median_s'?)",
        ("objective=status",): "objective=status is no column of numbers",
        ("objective=median_s", "cells=x.csv"): "cells= goes with hydra/sweeper=grid, not with",
    }
    for words, message in asked.items():
        assert message in own(*OPTUNA, "size=choice(8,12)", *words, code=2).stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_json_is_all_that_goes_to_standard_output(own: Runner, tmp_path: Path) -> None:
    done = own(*OWN[:-1], "size=8", "output=json", "hydra.run.dir=out")
    found = json.loads(done.stdout)
    assert Path(found["folder"]) == tmp_path / "out"
    assert found["exit_code"] == 0 and found["damaged"] == []
    (row,) = found["rows"]
    assert row["op"] == "add" and row["status"] == "ok" and row["median_s"] > 0
    assert row["launch_s"] is None and isinstance(row["flags"], list)
    assert "1 row in out" in done.stderr
    again = own("job=report", "run=out", "output=json")
    assert json.loads(again.stdout) == found
    wrong = own(*OWN[:-1], "size=13", "output=json", "hydra.run.dir=wrong", code=1)
    (row,) = json.loads(wrong.stdout)["rows"]
    assert row["status"] == "failed" and "thirteen" in row["reason"]
