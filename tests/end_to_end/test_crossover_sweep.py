"""``+sweep=crossover``, which chooses its sizes by what it has measured."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from runner.sweep.crossover_search import Outcome, Range, requested_sizes
from tests.conftest import Runner
from tests.support.commands import answers


@pytest.mark.slow
def test_sweep_crossover_measures_what_it_needs_and_goes_on_where_it_was_left(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(
        "import time, torch\n"
        # as if two threads cost 0.1 ms and halved the rest: they win from 100 elements on
        "def pay(x):\n"
        "    n, threads = len(x), torch.get_num_threads()\n"
        "    time.sleep(2e-6 * n if threads == 1 else 1e-4 + 1e-6 * n)\n"
        "    return x + 1\n"
    )
    (tmp_path / "mine" / "op").mkdir(parents=True)
    (tmp_path / "mine" / "op" / "pay.yaml").write_text(
        "name: pay\ncall: slow.pay\nsignature: 'n -> n'\ndifferentiable: false\n"
    )
    words = [
        "--config-dir",
        "mine",
        "+sweep=crossover",
        "op=pay",
        "dtype=float32",
        "device=cpu",
        "threads=1,2",
    ]
    words += [
        "report.baseline={threads: 1}",
        "hydra.sweeper.crossover={low: 40, high: 250, rtol: 0.4}",
    ]
    words += ["timing=quick", "timing.max_time_s=0.1"]
    runner(*words, "hydra.sweep.dir=out")
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    sizes = list(dict.fromkeys(rows["size"]))
    assert sizes[:2] == [40, 250]
    assert len(rows) == 2 * len(sizes)
    found = pd.read_csv(tmp_path / "out" / "speedup.csv").set_index("size").fillna({"reason": ""})

    def outcome(
        size: int,
    ) -> Outcome | None:  # as the rows tell it, whatever this machine did meanwhile
        if size not in found.index:
            return None
        one = found.loc[size]
        if pd.isna(one["speedup"]):
            return "disturbed" if "busy" in one["reason"] else "no_ratio"
        return "wins" if one["speedup"] > 1.01 else "loses"  # by more than report.same_within

    assert requested_sizes(outcome, Range(40, 250, 0.4)) == sizes
    folders = sorted(
        (tmp_path / "out").glob("*_*"), key=lambda path: int(path.name.partition("_")[0])
    )
    assert [int(path.name.partition("_")[0]) for path in folders] == list(range(len(rows)))
    for folder in folders[-2:]:  # as if it had been interrupted
        shutil.rmtree(folder)
    (smaller,) = answers(tmp_path, [[*words, "hydra.sweeper.crossover.high=249", "resume=out"]])
    assert smaller.code == 2
    assert re.search(
        r"resume=out: that folder has cells \(\d+ of \d+\) that .* has not, such as pay 250 ",
        smaller.stderr,
    )
    done = runner(*words, "resume=out")
    assert f"{len(rows) - 2} of {len(rows)} cells are done" in done.stderr
    assert (
        list(dict.fromkeys(pd.read_csv(tmp_path / "out" / "results.csv")["size"]))[: len(sizes)]
        == sizes
    )
