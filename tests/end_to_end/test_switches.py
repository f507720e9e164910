"""What a user's module does to the machine's switches stays its own: no other cell finds it."""

import pandas as pd
import pytest

from tests.conftest import make_runner

pytestmark = pytest.mark.slow

# each is called before the operation that tells what it finds
CHANGES = {
    "half_the_threads": "torch.set_num_threads(1)",
    "wide": "torch.set_default_dtype(torch.float64)",
    "without_grad": "torch.set_grad_enabled(False)",
    "tf32": "torch.set_float32_matmul_precision('medium')",
    "moved": "os.chdir('/')",
    "one_core": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "variable": "os.environ['LEFT_BEHIND'] = '1'",
    "interrupts": "signal.signal(signal.SIGTERM, lambda *which: None)",
    "masked": "os.umask(0o777)",
    "sleepers": "threading.Thread(target=time.sleep, args=(9999,)).start()",
    "softmaxes": "torch.nn.functional.softmax = torch.relu",
    "counts": "builtins.len = lambda of: 7",
    "few_files": "resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))",
    "child": "subprocess.Popen(['sh', '-c', 'while :; do :; done'])",
    "thread": "threading.Thread(target=spin, daemon=True).start()",
}
NAMED = {
    "half_the_threads": "threads",
    "wide": "default_dtype",
    "without_grad": "grad_mode",
    "tf32": "float32_matmul_precision",
    "moved": "folder",
    "one_core": "cpu_affinity",
    "variable": "environment",
    "interrupts": "signal_handlers",
    "masked": "umask",
    "softmaxes": "functions",
    "few_files": "limits",
    "child": "busy_children",
    "thread": "busy_threads",
}
AS_NEW = ("moved", "one_core", "variable", "interrupts", "few_files", "child", "thread")
AS_NEW += ("masked", "sleepers", "softmaxes", "counts")
CODE = """
import builtins, os, resource, signal, subprocess, threading, time
import torch

def spin():
    while True:
        pass

def found(x):
    products = torch.get_float32_matmul_precision()
    state = (
        torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), products,
        os.getcwd() == START, len(os.sched_getaffinity(0)) == CORES, "LEFT_BEHIND" in os.environ,
        signal.getsignal(signal.SIGTERM) == signal.SIG_IGN,
        resource.getrlimit(resource.RLIMIT_NOFILE) == FILES, threading.active_count(),
        torch.nn.functional.softmax.__name__, len(""),
    )
    raise RuntimeError(f"pid={os.getpid()} {state}")

START, CORES = os.getcwd(), len(os.sched_getaffinity(0))
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
"""
AT_IMPORT = "import torch\ntorch.set_num_threads(1)\ntorch.set_flush_denormal(True)\n"


FEW = ("half_the_threads", "one_core", "child")  # each new process takes seconds


@pytest.fixture(
    scope="module", params=[FEW, pytest.param(tuple(CHANGES), marks=pytest.mark.exhaustive)]
)
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """One sweep: an operation that changes something, then one that tells what it finds, and so on.

    The one whose module changes switches when it is imported runs last, and is imported first.
    """
    folder = tmp_path_factory.mktemp("switches")
    (folder / "mine" / "op").mkdir(parents=True)
    functions = [
        f"def {name}(x):\n    {code}\n    return x + 1\n" for name, code in CHANGES.items()
    ]
    (folder / "switching.py").write_text(CODE + "\n".join(functions))
    (folder / "importing.py").write_text(AT_IMPORT + "def plain(x):\n    return x + 1\n")
    names = []
    for number, name in enumerate(["found", *request.param]):
        for op, call in ((name, name), (f"after_{name}", "found")):
            text = f"name: {op}\ncall: switching.{call}\nsignature: n -> n\n"
            (folder / "mine" / "op" / f"{op}.yaml").write_text(text + "differentiable: false\n")
        names += [name, f"after_{name}"] if number else [name]
    text = "name: imported\ncall: importing.plain\nsignature: n -> n\ndifferentiable: false\n"
    (folder / "mine" / "op" / "imported.yaml").write_text(text)
    grid = ["-m", f"op={','.join([*names, 'imported'])}", "size=8", "timing=minimal"]
    words = ["--config-dir", "mine", *grid, "compare.in_turn=false", "hydra.sweep.dir=out"]
    make_runner(folder)(*words, code=1)
    return pd.read_csv(folder / "out" / "results.csv").set_index("op")


def test_the_next_cell_finds_the_machine_as_the_first_one_did(rows: pd.DataFrame) -> None:
    reasons = rows["reason"].str.partition(" (")[2]
    first = reasons["found"]
    assert "torch.float32" in first
    after = reasons[reasons.index.str.startswith("after_")]
    assert len(after) >= len(FEW)
    assert set(after) == {first}


def test_what_was_changed_is_named_in_the_row_that_changed_it(rows: pd.DataFrame) -> None:
    changed = rows["changed_switches"].fillna("")
    for name in changed.index.intersection(list(NAMED)):
        switch = NAMED[name]
        assert switch in changed[name].split(), name
        assert "changed_switches" in rows["flags"][name].split()
        assert rows["status"][name] == "ok"
    assert changed["imported"].split() == ["threads", "flush_denormal"]


def test_a_changed_process_is_replaced_and_a_changed_switch_of_torch_is_not(
    rows: pd.DataFrame,
) -> None:
    pids = rows["reason"].str.extract(r"pid=(\d+)")[0].dropna()
    before, replaced = pids["found"], []
    changes = [name for name in CHANGES if name in rows.index]
    for name in changes:
        after = pids[f"after_{name}"]
        if after != before:
            replaced.append(name)
        before = after
    assert replaced == [name for name in changes if name in AS_NEW]


def test_an_import_changes_no_other_operations_threads(rows: pd.DataFrame) -> None:
    assert rows["threads"].nunique() == 1
