"""What the arguments of the command line imply."""

from pathlib import Path

import pytest

from runner.cli.arguments import Arguments, with_implied
from runner.errors import ConfigError


def test_the_arguments_imply_what_users_leave_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_implied(["+sweep=gpu", "-m"]) == ["-m", "+sweep=gpu"]
    assert with_implied(["+sweep=gpu"]) == ["-m", "+sweep=gpu"]
    assert with_implied(["sweep=gpu"])[0] == "-m"
    assert with_implied(["dry_run=true"])[0] == "-m"
    assert with_implied(["-cd", str(tmp_path), "+sweep=gpu"])[0] == "-m"
    for asking in (
        ["--cfg", "job"],
        ["--help"],
        ["--info", "all"],
        ["hydra.mode=RUN"],
        ["-c", "job"],
    ):
        assert sorted(with_implied(["+sweep=gpu", *asking])) == sorted(["+sweep=gpu", *asking])
    between = ["op=add", "--config-dir", str(tmp_path), "size=4", "-m", "--info", "all", "seed=1"]
    with pytest.raises(ConfigError, match="leave -m out"):
        with_implied(between)
    between.remove("-m")
    options = ["--config-dir", str(tmp_path), "--info", "all"]
    assert with_implied(between) == [*options, "op=add", "size=4", "seed=1"]
    assert with_implied(["op=add"]) == with_implied(["op=add", "--quiet"]) == ["op=add"]
    assert with_implied(["op=add", "-m", "seed=1,2"]) == ["-m", "op=add", "seed=1,2"]
    with pytest.raises(ConfigError, match="no sweep's folder; give resume="):
        with_implied([f"resume={tmp_path}"])
    monkeypatch.chdir(tmp_path)
    single = tmp_path / "outputs" / "2026-11-29" / "10-00-00"
    single.mkdir(parents=True)
    (single / "environment.json").touch()
    with pytest.raises(
        ConfigError,
        match=r"outputs/2026-11-29/10-00-00 is a single cell's run, .*, so run it again",
    ):
        with_implied(["resume=last"])
    (single / "multirun.yaml").touch()
    assert with_implied(["resume=last"])
    (tmp_path / "environment.json").touch()
    with pytest.raises(
        ConfigError, match=f"resume={tmp_path} holds a single cell's run; only sweeps are taken up"
    ):
        with_implied([f"resume={tmp_path}"])
    assert f"hydra.run.dir='{tmp_path}'" in with_implied(["job=report", f"run={tmp_path}"])
    for given in ("hydra.run.dir=elsewhere", f"hydra.run.dir='{tmp_path}/x'"):
        with pytest.raises(ConfigError, match=f"{given}: run={tmp_path} says where; leave it out"):
            with_implied(["job=report", f"run={tmp_path}", given])
    with_implied(["job=report", f"run={tmp_path}", f"hydra.run.dir={tmp_path}/"])
    (tmp_path / "multirun.yaml").touch()
    with pytest.raises(ConfigError, match=r"hydra.sweep.dir=a: resume=.* says where; leave it out"):
        with_implied([f"resume={tmp_path}", "hydra.sweep.dir=a"])
    (tmp_path / "environment.json").write_text('{"side": {"python": "python"}}')
    with pytest.raises(ConfigError, match=f"resume={tmp_path} holds a side of job=ab, .*; run job"):
        with_implied(["-m", "size=1,2", f"resume={tmp_path}", "resume_force=true"])
    with pytest.raises(ConfigError, match="one sweep at a time"):
        with_implied(["+sweep=a,b"])


@pytest.mark.parametrize("word", ["job=ab", "job='ab'", '+job="ab"'])
def test_two_environments_are_a_sweep_however_the_job_is_quoted(word: str) -> None:
    assert with_implied([word, "op=add"])[-2:] == ["job=benchmark", "op=add"]
    assert Arguments.parse([word]).is_ab


def test_a_value_that_another_one_replaces_is_said_to_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["-m", "op=add", "size=64", "size=128", "dtype=float32", "dtype=float32"]
    assert with_implied(words) == words
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "size=64 does not count beside size=128, which comes later; for both write size=64,128"
    ]
