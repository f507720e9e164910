"""What is wrong on the command line is said in one line, with what was perhaps meant."""

import os
import re
from pathlib import Path

from runner.config.renamed import RENAMED
from tests.support.commands import answers

OPS = r"adaptive_max_pool3d, add, addmm, \.\.\.: python -m runner --help lists them"
OWN = r"; or add mine/op/%s.yaml and --config-dir mine"
PLUS_SWEEP = r"\+sweep"
QUOTED = r"; a file of your own of that name is \"%s='%s'\""
SWEEPS = (
    "autograd, compiled, cpu, crossover, gpu, lesson, mistakes, models, "
    "noise, opinfo, roof, smoke, transfer"
)

ASIDE = "goes only with job=benchmark"
ONE_AXIS = r"one axis and its value, such as 'report.baseline=\{dtype: float32\}'"
CORES = os.cpu_count() or 0  # fewer than 256 wherever these tests run

ONE_LINE = {
    "op=matmull": rf"op=matmull is unknown; did you mean matmul\? \({OPS}\){OWN % 'matmull'}",
    "op=zzz": rf"op=zzz is unknown; choose one of {OPS}{OWN % 'zzz'}",
    "op=mm": rf"op=mm is unknown; did you mean matmul\? \({OPS}\){OWN % 'mm'}",
    "op=attention": r"op=attention is unknown; did you mean scaled_dot_product_attention\? .*",
    "op=": rf"op= is empty; choose one of {OPS}",
    "--config-dir mine case=nan": r".*; a file of your own of that name is \"case='nan'\"",
    "--config-dir mine op=off dry_run=true": r".*mine/op/off.yaml: name: False is not text; put "
    r"quotes around it",
    "--config-dir mine case=several": r".*mine/case/several.yaml: name: \['a', 'b'\] is not text; "
    r"put quotes around it",
    "op=null": rf"op=null is unknown; choose one of {OPS}{QUOTED % ('op', 'null')}",
    "-m op=matmul,addd": rf"op=addd is unknown; did you mean add\? \({OPS}\){OWN % 'addd'}",
    "op=1e3": rf"op=1e3 is unknown; choose one of {OPS}{QUOTED % ('op', '1e3')}",
    "op=True": rf"op=True is unknown; choose one of {OPS}{QUOTED % ('op', 'True')}",
    "-m op=add,nan": rf"op=nan is unknown; choose one of {OPS}{QUOTED % ('op', 'nan')}",
    "case=-inf": r"case=-inf is unknown; choose one of lesson_1_1_ones, .*",
    "timing=NULL": "timing=NULL is unknown; choose one of default, minimal, quick, thorough"
    + QUOTED % ("timing", "NULL"),
    "+sweep=nan": f"sweep=nan is unknown; choose one of {SWEEPS}{QUOTED % (PLUS_SWEEP, 'nan')}",
    "case=lesson_2_3": r"case=lesson_2_3 is unknown; did you mean lesson_2_3_chain_rule\? "
    r"\(lesson_1_1_ones, .*",
    "timing=slow": "timing=slow is unknown; choose one of default, minimal, quick, thorough",
    "op=nothing size=64,65 dry_run=true": r"op=nothing is unknown; choose one of .*",
    "+sweep=gpuu": rf"sweep=gpuu is unknown; did you mean gpu\? \({SWEEPS}\)",
    "sweep=gpu": r"sweep is added with a plus: \+sweep=\.\.\.",
    "cluster=slrm": r"cluster=slrm is unknown; did you mean slurm\? \(ray, slurm\)",
    "+timing=quick": "timing is chosen already; write timing=quick without a plus",
    "--config-name=gpu": "--config-name=gpu: there is no such file; leave it out, or choose a "
    r"sweep's file with \+sweep=gpu",
    "--config-path=nowhere": "--config-path: no config.yaml is there; files of your own are added "
    "by --config-dir",
    "op=add,mul": "op=add,mul has several values, which need -m: python -m runner -m op=add,mul",
    "op=[add,mul]": "op=add,mul has several values, which need -m: python -m runner -m op=add,mul",
    "op=glob(*)": r"op=glob\(\*\) has several values, which need -m: python -m runner -m "
    r"'op=glob\(\*\)'",
    "size=(64,64)": r"size=\(64,64\) cannot be read as a size; allowed: 256 \(256x256\), "
    r"64x1024x1024, or .*",
    "size=64×64": "size=64×64 cannot be read as a size; allowed: 256 .*",
    "size={m: 4": "size={m: 4 cannot be read as a size; allowed: 256 .*",
    "run=a=b": "run=a=b cannot be read; put quotes within quotes around a value with other signs: "
    "\"run='...'\"",
    "-m zip.op=matmul,add zip.size=64": r"zip.op: zip is a list; give it whole, zip=\[...\]",
    "~zip.op": r"~zip.op: zip is a list; give it whole, zip=\[...\]",
    "hydra.sweeper.also.op=add": r"hydra.sweeper.also.op: hydra.sweeper.also is a list; .*",
    "limit=[1]": r"limit=\[1\]: limit has keys of its own, which --help lists; write .*",
    "exclude.0.op=add": r"exclude.0.op: exclude is a list that has no such entry; give .*",
    "baseline=float32": rf"baseline is unknown; give {ONE_AXIS}",
    "report.baseline.dtype=float32": rf"report.baseline.dtype is unknown; give {ONE_AXIS}",
    "report.baseline=dtype=float32": rf"report.baseline=dtype=float32 cannot be read; give "
    rf"{ONE_AXIS}",
    "report.baseline=float32": rf"report.baseline=float32 is not {ONE_AXIS}; the axes are op, .*",
    "add": r"add cannot be read: write key=value, such as op=add \(python -m runner --help lists "
    r"the keys\)",
    "limit.memory_bytes=1GB": "limit.memory_bytes=1GB is not a whole number",
    "threads=all": "threads=all is not a whole number; null, or leaving it out, means all cores",
    "-m threads=1,all": "threads=all is not a whole number; null, or .* all cores",
    "timing.precision=abc": "timing.precision=abc is not a number",
    "strict=ture": "strict=ture is not true or false",
    "dtype=": "dtype= is empty; allowed: float16, .*",
    "dtype=fp16": r"dtype=fp16 is unknown \(did you mean 'float16'\?\); allowed: float16, .*",
    "dtype=double": r"dtype=double is unknown \(did you mean 'float64'\?\); allowed: float16, .*",
    "threads=1024": rf"threads=1024 is too large for {CORES} cores; give {4 * CORES} or less",
    "-m threads=1,1024": rf"threads=1024 is too large for {CORES} cores; give {4 * CORES} or less",
    "-m case=glob(lesson_9*)": r"no case matches lesson_9\*; python -m runner --help lists what "
    r"there is",
    "job=autograd compile=true graph=true cache=cold": rf"cache=cold, graph=true {ASIDE} "
    rf"\(gradients are verified without\); .*",
    "-m job=autograd direction=forward,backward": rf"direction=backward {ASIDE} \(gradients are "
    rf"verified without\); .*",
    "case=lesson_2_1_polynomial compile=true": rf"compile=default {ASIDE} \(gradients are .*",
    "case=lesson_1_1_ones layout=transposed": rf"layout=transposed {ASIDE} \(tensors are checked "
    rf"without\); .*",
    "+sweep=transfer graph=true": rf"graph=true {ASIDE} \(job=transfer runs without\); leave it "
    rf"out",
    "exclude=3": r"exclude=3 is no list; write exclude=\[3\]",
    "--config-dir mine op=listed": r"op/listed.yaml: holds a list where keys with values belong; "
    r"correct the file",
    "--config-dir mine +sweep=typo": r"in sweep/typo.yaml: treads is unknown; did you mean "
    r"threads\?",
    "--config-dir mine +sweep=old": r"in sweep/old.yaml: contended was renamed to on_contention",
    "--config-dir mine +sweep=launched": "sweep/launched.yaml: hydra/launcher: basic would be "
    "ignored; say hydra/launcher=basic on the command line",
    "treads=2": r"treads is unknown; did you mean threads\?",
    "+treads=2": r"treads is unknown; did you mean threads\?",
    "~opp": r"opp is unknown; did you mean op\?",
    "foo=3": "foo is unknown; python -m runner --help lists every key",
    "limit.time=3": r"limit.time is unknown; did you mean limit.time_s\?",
    "limit.foo=3": r"limit.foo is unknown; allowed: limit.time_s, limit.build_time_s, .*",
    "++timing.precisio=3": r"timing.precisio is unknown; did you mean timing.precision\?",
    "+report.axis=op": r"report.axis is unknown; allowed: report.baseline, .*",
    "+cluster.retry=3 dry_run=true": r"cluster.retry is unknown; did you mean cluster.retries\?",
    "op.domain=0": r"op.domain is not in the file of the op; to add it write \+op.domain=\.\.\.",
    "hydra.foo=3": r"Could not override 'hydra.foo'. To append to your config use \+hydra.foo=3 .*",
}


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    files = {
        "op/listed": "- add\n",
        "op/off": "name: off\ncall: torch.exp\nsignature: n -> n\n",
        "case/several": "name: [a, b]\nexpression: x**2\nvalues: {x: 1.0}\n",
        "sweep/typo": "# @package _global_\ntreads: 2\n",
        "sweep/launched": "# @package _global_\ndefaults:\n  - override /hydra/launcher: basic\n",
        "sweep/old": "# @package _global_\ncontended: wait\n",
    }
    for name, text in files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / f"{name}.yaml").write_text(text)
    wrong = {
        command: said
        for command, said in zip(ONE_LINE, answers(tmp_path, list(ONE_LINE)), strict=True)
        if said[::2] != (2, "")
        # a slow machine says what it is at
        or not re.fullmatch(rf"(composing the cells \.\.\.\n)?{ONE_LINE[command]}\n", said.stderr)
    }
    assert not wrong


def test_what_has_another_name_now_is_refused_with_it(tmp_path: Path) -> None:
    """Every old key by what Hydra says of it.

    Every old field of an op or case file by the file's own reader.
    """
    mine = {
        "op/old": "name: old\ncall: torch.add\nsignature: n, n -> n\n",
        "case/old": "name: old\nresult: torch.ones(2)\nexpect: {shape: [2]}\n",
    }
    for name, text in mine.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / f"{name}.yaml").write_text(text)
    commands = {
        f"{'+' * key.startswith('hydra')}{key}=1": ("", key, new)
        for key, new in RENAMED["key"].items()
    }
    for kind in ("op", "case"):
        for old, new in RENAMED[kind].items():
            commands[f"--config-dir mine {kind}=old +{kind}.{old}=1"] = (
                f"{kind} file old: ",
                old,
                new,
            )
    for old, new in RENAMED["case expect"].items():
        commands[f"--config-dir mine case=old +case.expect.{old}=1"] = (
            "case file old: expect: ",
            old,
            new,
        )
    search = "+sweep=crossover hydra.sweeper.crossover={low: 1, high: 9, within: 0.1}"
    commands[search] = commands.pop("+hydra.sweeper.crossover.within=1")
    wrong = {
        command: answer
        for command, answer in zip(commands, answers(tmp_path, list(commands)), strict=True)
        if answer != (2, "{}{} was renamed to {}\n".format(*commands[command]), "")
    }
    assert not wrong


def test_a_group_may_be_chosen_to_be_none(tmp_path: Path) -> None:
    commands = [
        "case=null cluster=null dry_run=true",
        "-m case=null cluster=null size=4 dry_run=true",
    ]
    assert [answer.stdout for answer in answers(tmp_path, commands)] == [
        "matmul 512x512 float32 cpu    512x512, 512x512\n1 cell\n",
        "matmul 4x4 float32 cpu    4x4, 4x4\n1 cell\n",
    ]
