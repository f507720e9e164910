"""The command line: wrong input gets one clear message and exit code 2 before torch is imported or anything is run."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli.arguments import with_implied
from runner.cli.main import CellTask
from runner.errors import ConfigError
from runner.execute.session import Session, session_of
from runner.sweep.run_folder import folder_name
from tests.conftest import PATIENT, ROOT, Runner
from tests.support.commands import HEAVY, answers

SIZES = "allowed: 256 (256x256), 64x1024x1024, or named dimensions such as {m: 64, k: 128}, all of 1 or more"
DEVICES = "allowed: cpu, gpu, cuda, xpu, mps, mtia, hpu, npu"

WRONG = {
    "dtype=float31": r"dtype=float31 is unknown \(did you mean 'float32'\?\); allowed: float16, bfloat16, float32",
    "device=gppu": rf"device=gppu is unknown \(did you mean 'gpu'\?\); {DEVICES}",
    "device=cuda:x": r"device=cuda:x is unknown",
    "run=outputs": r"run=outputs goes with job=report; to take a sweep up again, use resume=",
    "op.flop=10**100000": r"op matmul: formula '10\*\*100000' cannot be evaluated for .* is too large or not real",
    "device=cpu:3": r"device=cpu:3 is unknown",
    "threads=50000": r"threads=50000 is too large; give 1024 or less",
    "seed=99999999999999999999": r"seed=99999999999999999999 is too large; give 1000000000000000 or less",
    "size=99999999999999999999": r"size=99999999999999999999 is not a size",
    "exclude=[{opp: matmul}]": r"exclude: \{opp: matmul\}: unknown axis",
    "-m size=64,128 report.baseline={size: 64}": r"report.baseline: no cell has size=64; the grid's values are 64x64",
    "-m op=glob(zzz*)": r"no op matches zzz\*; python -m runner --help lists what there is",
    "-m size=16 hydra.job.chdir=true": r"hydra.job.chdir=true needs hydra/launcher=basic",
    "+sweep=gpu,cpu": r"sweep=gpu,cpu: one sweep at a time; run the command once for each",
    "sizes=4": r"sizes is unknown; did you mean size\?",
    "size=0": re.escape(f"size=0 is not a size; {SIZES}"),
    "size=-3": re.escape(f"size=-3 is not a size; {SIZES}"),
    "size=1024y1024": re.escape(f"size=1024y1024 is not a size; {SIZES}"),
    "size=[]": re.escape(f"size=[] is not a size; {SIZES}"),
    "size={m: 4}": r"op matmul, .*: size with dimensions m: missing: k; the dimensions are batch, k, m, n",
    "size={m: 4, k: 2, z: 3}": r"unknown: z; the dimensions are batch, k, m, n",
    "op=bmm size=64": r"op bmm, 'b m k, b k n -> b m n': size 64x64 does not fit the signature, whose first input is "
    r"b x m x k; give 3 dimensions, such as size=8x64x64",
    "op=conv2d size=1x1x2x2": r"op conv2d, .*: dimension [pq] = . - . \+ 1 would be 0; choose a larger size",
    "op=gelu dtype=int32": r"op gelu takes no integer dtype \(int32\); it takes: floating",
    "op=gelu dtype=int32 job=autograd": r"op gelu takes no integer dtype",
    "op=max dtype=int32 direction=backward": r"op max in int32 has no gradient, which direction=backward needs",
    "~op.call": r"op file matmul: missing field call; an operation needs name, call and signature",
    "+op.cal=torch.add": r"op file matmul: unknown field 'cal' \(did you mean 'call'\?\); the fields are name",
    "op.flop=2*z": r"op file matmul: flop: 2\*z: unknown dimension z; known here: batch, k, m, n",
    "op.signature=m": r"op file matmul: signature 'm': write inputs -> outputs",
    "op.dtypes=[real]": r"op file matmul: dtypes: real is no kind of dtype; allowed: floating, integer, complex, bool",
    "job=bench": r"job=bench is unknown \(did you mean 'benchmark'\?\); "
    r"allowed: benchmark, autograd, tensors, transfer, roof, report",
    "direction=sideways": r"direction=sideways is unknown; allowed: forward, backward, both",
    "threads=0": r"threads=0 is too small; give 1 or more",
    "seed=-1": r"seed=-1 is too small; give 0 or more",
    "limit.time_s=-1": r"limit.time_s=-1 is out of range; give a positive number",
    "report.baseline={opp: 1}": r"report.baseline=\{'opp': 1\} is not one axis and its value, such as",
    "report.calls_per_transfer=0": r"report.calls_per_transfer=0 is too small; give 1 or more",
    "job=report": r"run=: no run's or sweep's folder; give run=outputs/<date>/<time>",
    "job=report run=nowhere": r"run=nowhere: no run's or sweep's folder",
    "-m dtype=float32,float31": r"dtype=float31 is unknown",
    "-m op=gelu,add dtype=int32": r"op gelu takes no integer dtype",
    "-m op=add size=4 exclude=[{op: mul}]": r"exclude: \{op: mul\} matches none of the 1 cells; correct the rule",
    "-m op=add size=4 exclude=[{opp: mul}]": r"exclude: \{opp: mul\}: unknown axis 'opp' \(did you mean 'op'\?\);",
    "-m op=add size=4 exclude=[3]": r"exclude: 3 is no rule; write a mapping such as \{op: matmul, dtype: float16\}",
    "-m op=add size=4 exclude=[{op: add}]": r"none of the grid's 1 cells is left; look at its axes",
    "-m op=add job=report": r"job=report reads one run and cannot be swept",
}


def test_wrong_input_is_answered_in_one_message_before_torch_is_imported(tmp_path: Path) -> None:
    wrong = {
        arguments: answer
        for arguments, answer in zip(WRONG, answers(tmp_path, list(WRONG)), strict=True)
        if answer.code != 2
        or not re.search(WRONG[arguments], answer.stderr)
        or not _is_plain(answer.stderr)
    }
    assert not wrong
    assert not list(tmp_path.rglob("results.csv"))


def _is_plain(message: str) -> bool:
    return not any(
        words in message for words in ("Traceback", "Error executing job", "cannot write")
    )


def test_a_wrong_value_costs_no_import_of_what_takes_long(runner: Runner) -> None:
    """The same of a process of its own, as a user has it."""
    done = runner("dtype=float31", code=2, env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "hydra" in imported
    assert not imported & set(HEAVY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["device=cuda"],
            r"device=cuda: PyTorch .* finds no accelerator on this machine, only the CPU; use device=cpu",
        ),
        (
            ["op.call=torch.matmull"],
            r"op matmul: call 'torch.matmull': torch has no 'matmull' \(did you mean 'matmul'\?\)",
        ),
        (
            ["op.call=nopackage.f"],
            r"op matmul: call 'nopackage.f' cannot be imported; give a dotted name such as torch",
        ),
        (
            ["backend_module=nowhere", "device=mine"],
            r"backend_module=nowhere cannot be imported: ModuleNotFoundError",
        ),
        (["-m", "device=cuda", "size=4,8"], r"device=cuda: PyTorch .* finds no accelerator"),
    ],
)
def test_what_only_the_machine_can_tell_is_an_error_too(
    arguments: list[str], message: str, runner: Runner, tmp_path: Path
) -> None:
    import torch

    if "device=cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    done = runner(*arguments, code=2)
    assert re.search(message, done.stderr), done.stderr
    assert not list(tmp_path.rglob("results.csv"))


@pytest.mark.parametrize(
    "arguments", [["hydra.run.dir=taken/out"], ["+sweep=smoke", "hydra.sweep.dir=taken/out"]]
)
def test_a_folder_that_cannot_be_written_is_an_error_before_anything_runs(
    arguments: list[str], runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    done = runner(*arguments, code=2)
    assert re.search(
        r"cannot write .*taken.*; choose another with hydra.run.dir= or hydra.sweep.dir=",
        done.stderr,
    )


@pytest.mark.parametrize(
    "arguments", [["hydra.run.dir=out"], ["-m", "seed=0,1", "hydra.sweep.dir=out"]]
)
def test_a_run_never_writes_over_another(
    arguments: list[str], runner: Runner, tmp_path: Path
) -> None:
    command = ["op=add", "size=4", "timing=minimal", *arguments]
    runner(*command)
    before = (tmp_path / "out" / "results.csv").read_bytes()
    assert "already holds the results of a run" in runner(*command, code=2).stderr
    assert (tmp_path / "out" / "results.csv").read_bytes() == before


def test_a_refused_sweep_leaves_no_folder(runner: Runner, tmp_path: Path) -> None:
    runner("-m", "op=add", "op.call=torch.ad", "hydra.sweep.dir=out", code=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the shell and the devices of Linux")
def test_an_output_that_cannot_be_written_is_named_and_takes_nothing_with_it(
    tmp_path: Path,
) -> None:
    program = f"'{sys.executable}' -m runner"
    ends = [
        (
            f"{program} op=add size=4 timing=minimal {PATIENT} hydra.run.dir=out >&-",
            0,
            "importing torch",
        ),
        (f"{program} job=report run=out | true; exit ${{PIPESTATUS[0]}}", 0, ""),
        (
            f"{program} job=report run=out >/dev/full",
            1,
            "cannot write standard output: No space left on device; what",
        ),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for line, code, said in ends:
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr
        assert not re.search("Traceback|folder: |Exception ignored", done.stderr)
        (tmp_path / "out" / "report.html").unlink()  # the last file to be written


def test_help_names_every_group_and_key(runner: Runner) -> None:
    text = runner("--help").stdout
    for word in ("+sweep=gpu", "matmul", "scaled_dot_product_attention", "limit:", "Exit codes"):
        assert word in text


def test_dry_run_lists_the_cells_and_writes_nothing(runner: Runner, tmp_path: Path) -> None:
    text = runner("+sweep=gpu", "op=matmul", "size=64,128", "dtype=float32", "dry_run=true").stdout
    assert text.splitlines() == [
        "matmul 64x64 float32 cpu",
        "matmul 64x64 float32 gpu",
        "matmul 128x128 float32 cpu",
        "matmul 128x128 float32 gpu",
        "autograd matmul 512x512 float32 cpu",
        "autograd matmul 512x512 float32 gpu",
        "6 cells",
    ]
    assert not list(tmp_path.iterdir())


def test_strict_makes_a_finding_a_failure(runner: Runner) -> None:
    import torch

    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    command = ["-m", "op=add", "size=4", "timing=minimal", "device=cpu,gpu"]
    runner(*command, code=0)
    runner(*command, "strict=true", code=1)


def test_the_arguments_imply_what_users_leave_out(tmp_path: Path) -> None:
    assert with_implied(["+sweep=gpu", "-m"]) == ["-m", "+sweep=gpu"]
    assert with_implied(["+sweep=gpu"]) == ["+sweep=gpu", "hydra.mode=MULTIRUN"]
    assert with_implied(["sweep=gpu"])[-1] == "hydra.mode=MULTIRUN"
    assert with_implied(["dry_run=true"])[-1] == "hydra.mode=MULTIRUN"
    assert with_implied(["-cd", str(tmp_path), "+sweep=gpu"])[-1] == "hydra.mode=MULTIRUN"
    for asking in (
        ["--cfg", "job"],
        ["--help"],
        ["--info", "all"],
        ["hydra.mode=RUN"],
        ["-c", "job"],
    ):
        assert with_implied(["+sweep=gpu", *asking]) == ["+sweep=gpu", *asking]
    assert with_implied(["op=add"]) == ["op=add"]
    assert with_implied(["op=add", "-m", "seed=1,2"]) == ["-m", "op=add", "seed=1,2"]
    with pytest.raises(ConfigError, match="no sweep's folder; give resume="):
        with_implied([f"resume={tmp_path}"])
    (tmp_path / "environment.json").touch()
    with pytest.raises(
        ConfigError, match=f"resume={tmp_path} holds a single cell's run; only sweeps are taken up"
    ):
        with_implied([f"resume={tmp_path}"])
    assert f"hydra.run.dir='{tmp_path}'" in with_implied(["job=report", f"run={tmp_path}"])
    with pytest.raises(ConfigError, match="one sweep at a time"):
        with_implied(["+sweep=a,b"])


def test_a_folder_name_is_safe_and_short() -> None:
    assert folder_name("op=matmul,size=64x64") == "op=matmul,size=64x64"
    assert folder_name("size={m: 4, k: 'a/b'}") == "size=-m-4,-k-a-b"
    long = [folder_name("op=" + "x" * 300 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= 120


def test_a_report_is_rebuilt_from_the_jobs_folders_alone(runner: Runner, tmp_path: Path) -> None:
    runner("-m", "op=add", "size=4,8", "timing=minimal", "hydra.sweep.dir=out")
    out = tmp_path / "out"
    before = (out / "results.csv").read_bytes()
    for name in ("results.csv", "report.md"):
        (out / name).unlink()
    done = runner("job=report", "run=out", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert (out / "results.csv").read_bytes() == before
    assert (out / "report.md").is_file()
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)
    assert not (out / ".hydra").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_a_damaged_row_is_reported_and_not_used(runner: Runner, tmp_path: Path) -> None:
    runner("-m", "op=add", "size=4,8", "timing=minimal", "hydra.sweep.dir=out")
    victim = next((tmp_path / "out").glob("0_*/results.csv"))
    victim.write_text(victim.read_text().replace("4x4", "5x5"))
    done = runner("job=report", "run=out", code=1)
    assert re.search(r"damaged, not used: .*0_.*results.csv: line 2 was altered", done.stdout)
    assert "5x5" not in (tmp_path / "out" / "results.csv").read_text()


def test_the_module_and_the_console_script_are_the_same_program(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("opsweep")
    if not script.exists():
        pytest.skip("opsweep is not installed in this environment")
    shown = [
        subprocess.run(
            [*command, "--cfg", "job"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for command in ([str(script)], [sys.executable, "-m", "runner"])
    ]
    assert shown[0] == shown[1]


def test_the_parent_process_never_imports_torch_even_where_it_runs_cells(tmp_path: Path) -> None:
    script = (
        "import sys; from runner.cli.main import offer_plugins, run; offer_plugins(); "
        "code = run(sys.argv[1:]); print('torch' in sys.modules, code)"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "-m",
        "op=add",
        "size=4,8",
        "timing=minimal",
        PATIENT,
        "hydra.sweep.dir=out",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False 0"


def test_a_task_sent_to_another_process_has_a_session_of_its_own_there() -> None:
    session = Session()
    there = [pickle.loads(pickle.dumps(CellTask(session))) for _ in range(2)]
    assert there[0] is there[1]  # so that the process's cells share a worker
    assert session_of(there[0]) is not session
    assert session_of(CellTask(session)) is session


def test_a_broken_op_file_is_named_with_its_line(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "broken.yaml").write_text("name: broken\ncall: 'torch.add\n")
    done = runner("--config-dir", "mine", "op=broken", code=2)
    assert re.fullmatch(r"not YAML: .*broken.yaml.*line \d.*; correct the file\n", done.stderr)
    (tmp_path / "mine" / "op" / "add.yaml").write_text(
        "name: add\ncall: torch.sub\nsignature: '..., ... -> ...'\n"
    )
    assert (
        "mine/op/add.yaml has a name that is built in"
        in runner("--config-dir", "mine", "op=add", code=2).stderr
    )


def test_a_report_remembers_the_baseline_and_says_what_is_missing(
    runner: Runner, tmp_path: Path
) -> None:
    import shutil

    runner(
        "-m",
        "op=add",
        "size=4,8",
        "threads=1,2",
        "report.baseline={threads: 1}",
        "hydra.sweep.dir=a b",
        "timing=minimal",
    )
    before = (tmp_path / "a b" / "speedup.csv").read_text()
    assert runner("job=report", "run=a b").returncode == 0
    assert (tmp_path / "a b" / "speedup.csv").read_text() == before
    refused = runner("job=report", "run=a b", "report.baseline={threads: 3}", code=2).stderr
    assert refused == "report.baseline: no row has threads=3; the rows' values are 1, 2\n"
    assert (tmp_path / "a b" / "speedup.csv").read_text() == before
    shutil.rmtree(next((tmp_path / "a b").glob("3_*")))
    assert (
        "1 of 4 cells are not there: resume=a b runs them"
        in runner("job=report", "run='a b'").stdout
    )


def test_swept_fields_of_an_operation_are_told_apart(runner: Runner, tmp_path: Path) -> None:
    command = [
        "-m",
        "op=softmax",
        "op.kwargs.dim=0,1",
        "size=8",
        "timing=minimal",
        "hydra.sweep.dir=out",
    ]
    shown = runner(*command).stdout.splitlines()
    assert "variant" in shown[0]
    assert len([line for line in shown if line.startswith("softmax")]) == 2
