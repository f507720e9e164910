"""The command line.

Wrong input gets one clear message before torch is imported or anything is run.
"""

import re
from importlib.metadata import version
from pathlib import Path

from runner import __version__
from tests.conftest import Runner
from tests.support.commands import HEAVY, answers

WRONG = {
    "dtype=float31": r"dtype=float31 is unknown \(did you mean 'float32'\?\); allowed: float16, "
    r"bfloat16, float32",
    "run=outputs": r"run=outputs goes with job=report; to take a sweep up again, use resume=",
    "exclude=[{opp: matmul}]": r"exclude: \{opp: matmul\}: unknown axis",
    "-m size=64,128 report.baseline={size: 64}": r"report.baseline: no cell has size=64; the "
    r"grid's values are 64x64",
    "-m op=glob(zzz*)": r"no op matches zzz\*; python -m runner --help lists what there is",
    "-m size=16 hydra.job.chdir=true": r"hydra.job.chdir=true: operations run in the folder that",
    "-m op=add,mul --cfg job": r"is of one cell; leave -m out and give one value of each; dry_run",
    "--op=matmul": r"--op=matmul is no option; write op=matmul",
    "--list": r"--list is no option; values are given as key=value",
    "--config-dir": r"--config-dir needs a value after it",
    "size=range(1,9) --info defaults": r"is of one cell; leave -m out and give one value of each",
    "--cfg jobb": r"^--cfg jobb is unknown \(did you mean 'job'\?\); allowed: job, hydra, all\n$",
    "--info=searchpaths": r"^--info searchpaths is unknown \(did you mean 'searchpath'\?\)",
    "--experimental-rerun nosuch.pickle": r"^--experimental-rerun is no option; .*\n$",
    "hydra.searchpath=[nosuch]": r"^hydra.searchpath: nosuch is no folder of files; .*\n$",
    "hydra.sweeper.params.op=add,mul": r"write op=add,mul, which counts more",
    "-m hydra.sweeper.params.op='add,mul'": r"write op='add,mul', which counts more",
    "hydra.verbose=true,false": r"hydra.verbose is the same for all cells; give one",
    "stop_after=1,2": r"stop_after is of the whole sweep; give one value",
    "timing.max_time_s=null": r"timing.max_time_s has to have a value; leave it out",
    "--resolve op=add": r"The --resolve flag can only be used",
    "op=add hydra.verbose=3": r"AssertionError",
    "hydra.sweep.dir=x": r"hydra.sweep.dir=x is for a sweep, which needs -m; give hydra.run.dir=",
    "-m op=add hydra.run.dir=x": r"hydra.run.dir=x is for a single cell; give hydra.sweep.dir=",
    "resume=last": r"^resume=last: there is no sweep below outputs/ here; ",
    "op=add retry=[timeout]": r"retry= goes with resume=",
    "-m op=add size=4 dry_run=true,false": r"dry_run is of the whole sweep; give one value",
    "-m op=[add,mul]": r"op=\[add,mul\]: write op=add,mul",
    "-m size=64,128,": r"size=64,128, cannot be read: there is a comma with nothing beside it",
    "op=add size=64 exclude=[{op: add}]": r"exclude leaves out the only cell; leave out its rule",
    "exclude={op: matmul}": r"exclude=\{op: matmul\} is no list; write exclude=\[\{op: matmul\}\]",
    "limit=5": r"limit=5: limit has keys of its own, .*; write limit.<key>=5",
    "-m hydra.sweeper.also=[3]": r"hydra.sweeper.also: 3 is no grid; write a mapping",
    "-m hydra.sweeper.also=3": r"hydra.sweeper.also=3 is no list",
    "-m hydra.sweeper.also=[{op: []}]": r"hydra.sweeper.also: op is empty; leave it out",
    "-m op=add,mul hydra.sweep.subdir=a/b": r"gives add 1024x1024 float32 cpu .*a/b, which does "
    r"not lie in .*; give one name",
    "+sweep=gpu,cpu": r"sweep=gpu,cpu: one sweep at a time; run the command once for each",
    "sizes=4": r"sizes is unknown; did you mean size\?",
    "size={m: 4}": r"op matmul, .*: size with dimensions m: missing: k; the dimensions are batch, "
    r"k, m, n",
    "op=bmm size=64": r"op bmm, 'b m k, b k n -> b m n': size 64x64 does not fit the signature, "
    r"whose first input is "
    r"b x m x k; give 3 dimensions, such as size=8x64x64",
    "op=gelu dtype=int32": r"op gelu takes no integer dtype \(int32\); it takes: floating",
    "~op.call": r"op file matmul: missing field call; an operation needs name, call and signature",
    "op.flop=2*z": r"op file matmul: flop: 2\*z: unknown dimension z; "
    r"known here: batch, complex, k, m, n",
    "job=bench": r"job=bench is unknown \(did you mean 'benchmark'\?\); "
    r"allowed: benchmark, autograd, tensors, transfer, roof, noise, trace, report, compare",
    "limit.time_s=-1": r"limit.time_s=-1 is out of range; give a positive number",
    "report.baseline={opp: 1}": r"report.baseline=\{'opp': 1\} is not one axis and its value, "
    r"such as",
    "job=report": r"run=: no run's or sweep's folder; give run=outputs/<date>/<time>",
    "job=report run=nowhere": r"run=nowhere: no run's or sweep's folder",
    "-m dtype=float32,float31": r"dtype=float31 is unknown",
    "-m op=gelu,add dtype=int32": r"op gelu takes no integer dtype",
    "-m op=add size=4 exclude=[{op: mul}]": r"exclude: \{op: mul\} matches none of the 1 cells; "
    r"correct the rule",
    "-m op=add size=4 exclude=[3]": r"exclude: 3 is no rule; write a mapping such as \{op: "
    r"matmul, dtype: float16\}",
    "-m op=add job=report": r"job=report reads runs and cannot be swept",
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


def test_a_wrong_option_is_a_line_where_a_user_types_it_too(runner: Runner) -> None:
    done = runner("op=add", "--dryrun", code=2)
    advice = "values are given as key=value (--hydra-help lists the options)"
    assert done.stderr == f"--dryrun is no option; {advice}\n"


def test_the_version_is_of_all_that_a_report_of_an_error_needs(tmp_path: Path) -> None:
    """Without an import of torch, which ``answers`` would refuse."""
    said = f"opsweep {__version__}, PyTorch {version('torch')}, Hydra {version('hydra-core')}\n"
    commands = ["--version", "op=add --version"]
    assert answers(tmp_path, commands) == [(0, "", said), (0, "", said)]


def test_help_and_a_dry_run_say_what_there_is_and_write_nothing(tmp_path: Path) -> None:
    dry = "+sweep=gpu op=matmul size=64,128 dtype=float32 dry_run=true"
    shown, listed = answers(tmp_path, ["--help", dry])
    for word in ("+sweep=gpu", "matmul", "scaled_dot_product_attention", "limit:", "Exit codes"):
        assert word in shown.stdout
    cells = [line.partition("    ") for line in listed.stdout.splitlines()]
    assert cells[2][2] == "128x128, 128x128"
    assert [cell for cell, _, _ in cells] == [
        "matmul 64x64 float32 cpu",
        "matmul 64x64 float32 gpu",
        "matmul 128x128 float32 cpu",
        "matmul 128x128 float32 gpu",
        "autograd matmul 512x512 float32 cpu",
        "autograd matmul 512x512 float32 gpu",
        "6 cells",
    ]
    assert (shown.code, listed.code) == (0, 0)
    assert not list(tmp_path.iterdir())


def test_a_broken_op_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "broken.yaml").write_text("name: broken\ncall: 'torch.add\n")
    (tmp_path / "twice" / "op").mkdir(parents=True)
    (tmp_path / "twice" / "op" / "add.yaml").write_text(
        "name: add\ncall: torch.sub\nsignature: '..., ... -> ...'\n"
    )
    (tmp_path / "twice" / "__init__.py").touch()
    (tmp_path / "twice" / "op" / "__init__.py").touch()
    path = "-m op=mul,add hydra.searchpath=[{}] dry_run=true"
    commands = ["--config-dir mine op=broken", "--config-dir twice op=add"]
    commands += map(path.format, ("twice", "pkg://twice", f"file://{tmp_path}/twice"))
    broken, twice, *others = answers(tmp_path, commands)
    assert all("has a name that is built in" in other.stderr for other in others)
    assert [other.code for other in others] == [2, 2, 2]
    assert broken.code == twice.code == 2
    assert re.fullmatch(r"not YAML: .*broken.yaml.*line \d.*; correct the file\n", broken.stderr)
    assert "twice/op/add.yaml has a name that is built in" in twice.stderr
