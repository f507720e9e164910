"""An editable install, a wheel and a bare checkout all run, from any folder.

As a module and as a console script.
"""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.api.test_pytest_plugin import TESTS as OF_A_USER
from tests.conftest import PATIENT, ROOT
from tests.support import shape

COMMAND = ["op=add", "size=4", "timing=minimal", "hydra.run.dir=out", PATIENT]


def call(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder with this checkout on no path but those given."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=folder, env={**clean, **env}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the built wheel was installed, without what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", built], check=True)
    return folder / "site"


@pytest.mark.slow
def test_a_wheel_has_its_own_configuration(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner", "--info", "searchpath"]
    assert str(wheel / "runner" / "conf") in call(command, tmp_path, PYTHONPATH=str(wheel)).stdout
    for group in ("op", "case", "sweep", "timing", "cluster"):
        here, there = (root / group for root in (ROOT / "conf", wheel / "runner" / "conf"))
        assert {path.name for path in there.iterdir()} == {path.name for path in here.iterdir()}


@pytest.mark.exhaustive
def test_a_wheel_brings_two_packages_and_nothing_else(wheel: Path) -> None:
    assert {path.name.partition("-")[0] for path in wheel.iterdir()} == {
        "bin",
        "opsweep",
        "runner",
    }
    assert not (wheel / "runner" / "api" / "opsweep").exists()
    assert (wheel / "opsweep" / "py.typed").is_file() and (wheel / "runner" / "py.typed").is_file()


MINE = """
import torch, opsweep
x = torch.linspace(0.1, 2.0, 64)
print(opsweep.__file__)
print(opsweep.time(torch.sin, x, max_time_s=0.02))
print(opsweep.compare(torch.cos, torch.sin, x, max_time_s=0.02).reason == "")
print(opsweep.check_gradients(torch.sin, x[:4]).ok)
print(opsweep.sweep("timing=minimal", "limit.time_s=900", op="add", size=4).loc[0, "status"])
"""


@pytest.mark.exhaustive
def test_a_wheel_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """It has what the wheel depends on, and nothing of this checkout."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    of_venv = Path(call([str(python), "-c", where], tmp_path).stdout.strip())
    # what a .pth names is on the path, and its own .pth, that of this checkout, is not read
    (of_venv / "others.pth").write_text(f"{wheel}\n{sysconfig.get_path('purelib')}\n")
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "test_mine.py").write_text(OF_A_USER)

    ran = call([str(python), "mine.py"], tmp_path, COLUMNS="80")
    assert ran.returncode == 0, ran.stderr
    file, a_time, *others = ran.stdout.splitlines()
    assert Path(file).parent == wheel / "opsweep" and a_time.startswith("sin: ")
    assert others == ["True", "True", "ok"]

    tested = call([str(python), "-m", "pytest", "-p", "no:cacheprovider"], tmp_path)
    assert tested.returncode == 1, tested.stdout + tested.stderr
    assert "2 passed" in tested.stdout and "1 failed" in tested.stdout
    assert "passed  test_mine.py::test_the_same: old against old: " in tested.stdout
    assert "failed  test_mine.py::test_a_fifth_more_work: new against old: " in tested.stdout


@pytest.mark.slow
def test_a_wheels_console_script_runs_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(wheel / "bin" / "opsweep")]
    done = call([*script, *COMMAND], tmp_path, PYTHONPATH=str(wheel))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results.csv").is_file()


@pytest.mark.slow
def test_the_installed_console_script_runs_and_sees_the_folder_that_it_is_called_in(
    tmp_path: Path,
) -> None:
    script = Path(sys.executable).with_name("opsweep")
    if not script.exists():
        pytest.skip("opsweep is not installed in this environment")
    (tmp_path / "here.py").write_text("def double(x):\n    return x * 2\n")
    own = ["op.call=here.double", "op.signature='... -> ...'"]
    done = call([str(script), *COMMAND, *own], tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_bare_checkout_is_the_same_program_from_any_folder(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("opsweep")
    if not script.exists():
        pytest.skip("opsweep is not installed in this environment")
    module = call([sys.executable, "-m", "runner", "--cfg", "job"], tmp_path, PYTHONPATH=str(ROOT))
    installed = call([str(script), "--cfg", "job"], tmp_path)
    assert module.returncode == installed.returncode == 0, module.stderr
    assert module.stdout == installed.stdout


def test_tested_versions_satisfy_the_declared_ranges() -> None:
    from packaging.requirements import Requirement

    project = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'^  "([A-Za-z][^"]*)",', project, re.MULTILINE) + re.findall(
        r'"([a-z-]+>=\d[^"]*)"', project
    )
    ranges = {
        r.name.lower(): r.specifier
        for r in map(Requirement, (x for x in listed if re.search("[<>=]", x)))
    }
    pins = [
        Requirement(line)
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert {"torch", "hydra-core", "omegaconf", "pandas", "pytest"} <= ranges.keys() & {
        p.name.lower() for p in pins
    }
    for pin in pins:
        (version,) = (s.version for s in pin.specifier)
        assert pin.name.lower() not in ranges or ranges[pin.name.lower()].contains(version), pin


def test_the_bundle_holds_all_that_a_machine_with_torch_may_lack() -> None:
    """All that an installation asks for, but for torch, pandas and what only these need."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    said = dict(re.findall(r"^(BUNDLED|BINARY) := (.*)$", makefile, re.MULTILINE))
    bundled = {*said["BUNDLED"].split(), *said["BINARY"].split(), "antlr4-python3-runtime"}

    needed, open_lists = set(), [shape.project()["dependencies"]]
    while open_lists:
        for text in open_lists.pop() or ():
            requirement = Requirement(text)
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            of_extra = requirement.marker and not requirement.marker.evaluate({"extra": ""})
            if not of_extra and name not in {*needed, "torch", "pandas"}:
                needed.add(name)
                open_lists.append(requires(name))
    assert needed | {"nvidia-ml-py"} == bundled
