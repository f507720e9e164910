"""Times on an accelerator: against one whose true times are known, and on real hardware.

The simulated device (``tests/support/simulated_device.py``) goes through the very path that a real
one takes, with a scripted clock for the host, so that nothing here depends on what else the machine
does. How near the same times come by a real clock is shown by
``tests/benchmarks/simulated_device_accuracy.py``. Each of two sweeps holds many cells, since a
worker's start costs more than these.
"""

import json
import os
import subprocess
import sys
from math import prod
from pathlib import Path

import pandas as pd
import pytest

from runner.rows.flags import has_failed_check
from tests.conftest import LONGEST_S, ROOT, Runner
from tests.support.known_device import BANDWIDTH, COPY, LAUNCH, MODEL, PEAK

pytestmark = pytest.mark.slow

SIM = {"SIM_CLOCK": "scripted", **MODEL}
OPS = ("matmul", "add", "mul", "transpose", "transpose_copy", "sum")
FAR = (
    "8",
    "16",
    "24",
    "768",
    "1024",
    "2x768x768",
)  # whose times are far from the launch's, on either side
REAL = ("64", "1024", "4096", "64x1024x1024", "128x1024x1024", "256x1024x1024")  # for hardware
BACKEND = "backend_module=tests.support.simulated_device"
EXACT = (
    1e-3  # relative: a scripted clock leaves nothing but its own ticks and the rounding of a median
)
HEAD = """\
# @package _global_
# python -m runner --config-dir mine +sweep=times
defaults:
  - override /timing: quick
timing: {{block_s: 0.00005, min_samples: 6, warmup_s: 0.02, max_time_s: 2}}
limit: {{time_s: 300}}
hydra:
  sweeper:
"""
BY_EVENTS = """\
    params: {{op: "{ops}", size: "{sizes}", device: "{device}"}}
    also:
      - {{op: "add,matmul", size: {backward}, direction: "backward,both", device: "{device}"}}
      - {{op: matmul, size: {backward}, direction: "{all}", graph: true, device: {device}}}
      - {{op: add, size: 64, graph: true, device: cpu}}
"""
BY_WALL = """\
    params: {{op: "add,mul", size: "8,16", device: "{device}"}}
    also:
      - {{op: "add,transpose_copy", size: "{long}", device: "{slow}"}}
      - {{job: transfer, size: {largest}, device: "{device}"}}
"""


@pytest.fixture(scope="module", params=["sim", "cuda"])
def device_and_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The device, and a folder with sweeps for it."""
    import torch

    kind: str = request.param
    if kind == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine: torch.cuda.is_available() is False")
    folder = tmp_path_factory.mktemp(kind)
    (folder / "mine" / "sweep").mkdir(parents=True)
    real = {
        "sizes": ",".join(REAL),
        "slow": "cuda",
        "long": "256x1024x1024",
        "backward": 1024,
        "largest": 256 * 1024**2,
    }
    simulated = {
        "sizes": ",".join(FAR),
        "slow": "sim:1",
        "long": "1024",
        "backward": 512,
        "largest": 4 * 1024**2,
    }
    values = {
        "ops": ",".join(OPS),
        "device": kind,
        "all": "forward,backward,both",
        **(simulated if kind == "sim" else real),
    }
    for name, text in {"by_events": BY_EVENTS, "by_wall": BY_WALL}.items():
        (folder / "mine" / "sweep" / f"{name}.yaml").write_text((HEAD + text).format(**values))
    return kind, folder


@pytest.fixture(scope="module")
def swept(device_and_folder: tuple[str, Path]) -> tuple[str, Path]:
    """The device, and the folder of a sweep whose times are the device's own."""
    kind, folder = device_and_folder
    return kind, run_in(folder, "by_events", *[BACKEND] * (kind == "sim"))


@pytest.fixture(scope="module")
def by_wall(device_and_folder: tuple[str, Path]) -> tuple[str, Path]:
    """The device, and the folder of a sweep whose times are the host's."""
    kind, folder = device_and_folder
    no_gradient = (
        "++op.differentiable=false"  # the engine knows but one device that is written in Python
    )
    return kind, run_in(folder, "by_wall", *[BACKEND, no_gradient] * (kind == "sim"))


def sizes_of(kind: str) -> tuple[str, ...]:
    return FAR if kind == "sim" else REAL


def run_in(folder: Path, sweep: str, *arguments: str) -> Path:
    own = [f"+sweep={sweep}", f"hydra.sweep.dir={sweep}"]
    done = subprocess.run(
        [sys.executable, "-m", "runner", "--config-dir", "mine", *own, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **SIM},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / sweep


PROGRAM = """
import json, sys, time, torch
from statistics import median
import tests.support.simulated_device

FAR = json.loads(sys.argv[1])

def naive():
    ops = {"matmul": torch.matmul, "add": torch.add, "mul": torch.mul,
            "transpose_copy": lambda a: torch.transpose_copy(a, -2, -1), "sum": torch.sum}
    seen = []
    for size in FAR:
        shape = [int(n) for n in size.split("x")] * (1 if "x" in size else 2)
        a, b = torch.ones(shape, device="sim"), torch.ones(shape, device="sim")
        for name, op in ops.items():
            inputs = (a, b) if name in ("matmul", "add", "mul") else (a,)
            times = []
            for _ in range(9):
                start = time.perf_counter()
                op(*inputs)
                times.append(time.perf_counter() - start)
            torch.get_device_module("sim").synchronize()
            seen.append([name, "x".join(map(str, shape)), median(times)])
    return seen

def same():
    backend = torch.get_device_module("sim")

    def results(device):
        out = []
        torch.manual_seed(0)
        b = torch.zeros(4).to(device)
        c, d = b + 1, b.view(2, 2)
        b.copy_(torch.arange(4.0))
        e = b * 2
        b[b > 1] = 7
        out += [c, d, e, b, (b > 1).nonzero()]
        q = torch.arange(6.0).to(device).view(2, 3)
        t, u = q.t(), q.t() + 0
        q[0].add_(10)
        q[:, 1] *= 2
        written = torch.add(q, 1, out=torch.empty(2, 3, device=device))
        out += [q, t, u, written, *torch.topk(q, 2), q.cumsum(1)]
        layer = torch.nn.Linear(3, 4)
        layer = layer.to(device)
        step = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(3):
            step.zero_grad()
            layer(q).tanh().pow(2).mean().backward()
            step.step()
        if device == "sim":
            graph = backend.CUDAGraph()
            with backend.graph(graph):
                sums = q + u.t()
            q.mul_(2)
            graph.replay()
        else:
            q.mul_(2)
            sums = q + u.t()
        out += [sums, layer.weight.detach(), layer.bias.grad, q.sum().item()]
        return [x.cpu() if isinstance(x, torch.Tensor) else torch.tensor(x) for x in reversed(out)]

    before = backend.memory_allocated()
    same = [torch.allclose(a, b) for a, b in zip(results("sim"), results("cpu"), strict=True)]
    return [same, before, backend.memory_allocated(), backend.max_memory_allocated() > 0]

print(json.dumps([naive(), same()]))
"""


@pytest.fixture(scope="module")
def by_hand() -> tuple[list[tuple[str, str, float]], list[object]]:
    """Times by a timer that does not wait, and whether values agree, without the runner.

    In a process of its own: the device stays with a process that has it.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(FAR)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **SIM},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    naive, same = json.loads(done.stdout)
    return naive, same


def model_s(op: str, size: str) -> float:
    """What the device takes for one call.

    By its declared model and the work that the operation has to do.
    """
    shape = [int(n) for n in size.split("x")]
    *batch, m, n = shape
    elements = prod(shape)
    if op == "transpose":
        return 0.0  # a view
    if op == "matmul":
        assert m == n
        return max(2 * prod(batch) * m**3 / PEAK, 12 * elements / BANDWIDTH)
    moved = {
        "add": 12 * elements,
        "mul": 12 * elements,
        "transpose_copy": 8 * elements,
        "sum": 4 * elements + 4,
    }
    return moved[op] / BANDWIDTH


def forward(folder: Path) -> pd.DataFrame:
    rows = pd.read_csv(folder / "results.csv")
    return rows[(rows["direction"] == "forward") & ~rows["graph"]]


def test_every_kernel_time_is_the_models(swept: tuple[str, Path]) -> None:
    kind, folder = swept
    rows = forward(folder)
    assert set(rows["status"]) == {"ok"}
    assert len(rows) == len(OPS) * len(sizes_of(kind))
    if kind == "sim":
        truth = [model_s(row.op, row.size) for row in rows.itertuples()]
        for row, true_s in zip(rows.itertuples(), truth, strict=True):
            assert row.median_s == pytest.approx(true_s, rel=1e-6), (row.op, row.size)
        assert sum(true_s >= 100e-6 for true_s in truth) >= 15
        assert sum(0 < true_s < 100e-6 for true_s in truth) >= 15


@pytest.mark.slow
def test_events_agree_with_a_synchronized_wall_clock(by_wall: tuple[str, Path]) -> None:
    kind, folder = by_wall
    rows = pd.read_csv(folder / "results.csv")
    long = rows[rows["median_s"] > 100 * rows["launch_s"]]  # a launch is nothing beside these
    assert len(long) == 2
    ratio = long["wall_s"] / long["median_s"]
    if kind == "sim":  # the launch, which the host waits for too, is at most a hundredth
        assert ((ratio >= 1) & (ratio <= 1.01)).all(), ratio
    else:  # a host that is busy with something else notices the end too late, never too early
        assert (ratio >= 0.98).all(), ratio


def test_a_timer_that_does_not_wait_is_wrong_by_more_than_tenfold_on_the_same_cells(
    swept: tuple[str, Path], by_hand: tuple[list[tuple[str, str, float]], list[object]]
) -> None:
    if swept[0] != "sim":
        pytest.skip("how wrong it is depends on the hardware")
    naive = by_hand[0]
    rows = forward(swept[1]).set_index(["op", "size"])
    reported = rows["median_s"]
    assert len(naive) == (len(OPS) - 1) * len(FAR)
    for op, size, seconds in naive:
        true_s = model_s(op, size)
        assert max(seconds / true_s, true_s / seconds) > 10, (op, size, seconds, true_s)
        assert max(reported[op, size] / true_s, true_s / reported[op, size]) < 10


@pytest.mark.slow
def test_the_launch_time_is_the_models(by_wall: tuple[str, Path]) -> None:
    kind, folder = by_wall
    rows = pd.read_csv(folder / "results.csv")
    short = rows[rows["size"].isin(["8x8", "16x16"])]
    assert len(short) == 4
    assert (short["launch_s"] > 0).all()
    assert (short["launch_s"] <= short["wall_s"]).all()
    if kind == "sim":
        assert list(short["launch_s"]) == pytest.approx([LAUNCH] * 4, rel=EXACT)
        kernels = [model_s(row.op, row.size) for row in short.itertuples()]
        assert list(short["wall_s"]) == pytest.approx(
            [LAUNCH + kernel_s for kernel_s in kernels], rel=EXACT
        )


@pytest.mark.slow
def test_latency_and_bandwidth_of_transfers_are_the_models(by_wall: tuple[str, Path]) -> None:
    kind, folder = by_wall
    rows = pd.read_csv(folder / "transfers.csv")
    assert set(rows["status"]) == {"ok"}
    ways = {(to_device, memory) for to_device in (True, False) for memory in ("pageable", "pinned")}
    assert set(zip(rows["to_device"], rows["memory"], strict=True)) == ways
    for name, unit in (("latency", "s"), ("bandwidth", "bytes_per_s")):
        value = rows[f"{name}_{unit}"]
        assert (rows[f"{name}_low_{unit}"] <= value).all()
        assert (value <= rows[f"{name}_high_{unit}"]).all()
    points = [json.loads(text) for text in rows["points"]]
    assert [len(row) for row in points] == list(rows["sizes"])
    assert [row[-1][0] for row in points] == list(rows["largest_bytes"])
    if kind == "sim":
        for row in rows.itertuples():
            latency_s, bandwidth = COPY[row.memory]
            assert row.latency_s == pytest.approx(latency_s, rel=EXACT), row
            assert row.bandwidth_bytes_per_s == pytest.approx(bandwidth, rel=EXACT), row


def test_memory_is_counted_for_each_cell(swept: tuple[str, Path]) -> None:
    rows = forward(swept[1]).set_index(["op", "size"])["peak_memory_bytes"]
    for size in ("16x16", "2x768x768") if swept[0] == "sim" else ("1024x1024",):
        tensor = 4 * prod(map(int, size.split("x")))
        assert rows["add", size] == 3 * tensor
        assert rows["transpose", size] == tensor


def test_values_gradients_and_views_are_as_anywhere(swept: tuple[str, Path]) -> None:
    rows = forward(swept[1])
    assert set(rows["gradient"]) == {"pass"}
    assert (rows["max_relative_error"] <= rows["allowed_relative_error"]).all()
    assert set(rows[rows["op"] == "transpose"]["flags"]) == {"view"}
    others = rows[rows["op"] != "transpose"]["flags"].fillna("")
    if swept[0] == "sim":
        assert (others == "").all()
    else:  # hardware may be busy, or hot
        assert not others.map(lambda flags: has_failed_check(flags.split())).any()
    assert (rows["finite_fraction"] == 1).all()


def test_a_backward_pass_is_timed_by_its_own_kernels(swept: tuple[str, Path]) -> None:
    rows = pd.read_csv(swept[1] / "results.csv")
    times = rows[(rows["direction"] != "forward") & ~rows["graph"]].set_index(["op", "direction"])[
        "median_s"
    ]
    assert times["matmul", "both"] > times["matmul", "backward"] > 0
    if (
        swept[0] == "sim"
    ):  # two products of the cotangent and an input; nothing to compute for a sum
        assert times["matmul", "backward"] == pytest.approx(
            2 * model_s("matmul", "512x512"), rel=EXACT
        )
        assert times["matmul", "both"] == pytest.approx(3 * model_s("matmul", "512x512"), rel=EXACT)


def test_a_graph_is_replayed_or_the_row_says_why_not(swept: tuple[str, Path]) -> None:
    rows = pd.read_csv(swept[1] / "results.csv")
    graphs = rows[rows["graph"]].set_index("device")
    why = "NotImplementedError: graph=true needs CUDA graphs, which cpu has not; use graph=false"
    assert (graphs["status"]["cpu"], graphs["reason"]["cpu"]) == ("unsupported", why)
    replayed = graphs.loc[swept[0]].set_index("direction")
    assert set(replayed["status"]) == {"ok"}
    singly = rows[~rows["graph"] & (rows["op"] == "matmul")].set_index(["size", "direction"])
    assert replayed["launch_s"]["both"] < singly["launch_s"][replayed["size"]["both"], "both"]
    if swept[0] == "sim":
        product_s = model_s("matmul", replayed["size"]["both"])
        assert replayed["median_s"]["forward"] == pytest.approx(product_s, rel=EXACT)
        assert replayed["median_s"]["backward"] == pytest.approx(2 * product_s, rel=EXACT)
        assert replayed["median_s"]["both"] == pytest.approx(3 * product_s, rel=EXACT)


def test_its_values_are_those_of_the_cpu_in_whatever_order_they_are_looked_at(
    by_hand: tuple[list[tuple[str, str, float]], list[object]],
) -> None:
    """And no memory is left of them."""
    assert by_hand[1] == [[True] * 16, 0, 0, True]


def test_a_second_opinion_and_the_energy_of_a_call_are_the_models(
    runner: Runner, tmp_path: Path
) -> None:
    asked = [
        "timing=quick",
        "timing.check=profiler",
        "timing.energy_s=0.8",
        "compare.in_turn=false",
    ]
    cells = ["-m", "op=add", "size=64,512", "device=sim", BACKEND]
    model = {**SIM, "SIM_GAP_S": "2e-5", "SIM_POWER_W": "100"}
    runner(*cells, *asked, "hydra.sweep.dir=out", env=model)
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(rows["status"]) == {"ok"}
    for row in rows.itertuples():
        kernel_s = model_s("add", row.size)
        assert row.kernel_s == pytest.approx(kernel_s, rel=EXACT)
        assert row.gap_s == pytest.approx(2e-5, rel=EXACT)
        assert row.median_s == pytest.approx(kernel_s + 2e-5, rel=EXACT)
        assert row.energy_j == pytest.approx(100 * kernel_s, rel=EXACT)
        assert row.energy_low_j <= row.energy_j <= row.energy_high_j
        ((name, count, seconds),) = json.loads(row.kernels)
        assert (name, count, seconds) == ("add", 1, pytest.approx(kernel_s, rel=EXACT))
        tensor = 4 * prod(map(int, row.size.split("x")))
        assert row.peak_memory_bytes == 3 * tensor, "also of the first cell"
        assert (row.clock_low_hz, row.temperature_c) == (row.clock_before_hz, 40)
    assert rows["flags"].isna().all() and rows["throttle_reasons"].isna().all()

    lying = {**SIM, "SIM_TRACE_FACTOR": "1.2"}
    runner(*cells, "size=512", *asked, "hydra.sweep.dir=lying", env=lying)
    (row,) = pd.read_csv(tmp_path / "lying" / "results.csv").to_dict("records")
    assert row["flags"] == "profiler_differs"


FAULTS = """\
# @package _global_
# python -m runner --config-dir mine +sweep=faults
defaults:
  - override /timing: minimal
limit: {time_s: 300}
hydra:
  sweeper:
    params: {op: add, size: "70,80,1000,90,60,100,50", device: sim}
    also: [{op: add, size: 120, device: sim, limit.time_s: 3}]
"""


def test_a_fault_of_the_device_becomes_a_row_and_the_next_cell_runs(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    (tmp_path / "mine" / "sweep" / "faults.yaml").write_text(FAULTS)
    # the clock decides how many kernels there are
    faults = "throttle@6400@30,fail@8100,lost@10000,hang@14400"
    faulty = {"SIM_FAULT": faults, "SIM_MEMORY_BYTES": "5e6", "SIM_CLOCK": "scripted"}
    command = ["--config-dir", "mine", "+sweep=faults", BACKEND, "hydra.sweep.dir=out"]
    runner(*command, code=1, env=faulty, limit="")
    rows = pd.read_csv(tmp_path / "out" / "results.csv").set_index("size")
    assert rows["status"].to_dict() == {
        "70x70": "ok",
        "80x80": "ok",
        "1000x1000": "out_of_memory",
        "90x90": "failed",
        "60x60": "ok",
        "100x100": "failed",
        "50x50": "ok",
        "120x120": "timeout",
    }
    assert "throttled" in rows["flags"]["80x80"]
    assert "throttled" not in f"{rows['flags']['70x70']}{rows['flags']['60x60']}"
    assert rows["clock_after_hz"]["80x80"] == rows["clock_before_hz"]["80x80"] / 2
    assert (rows["power_before_w"]["80x80"], rows["power_after_w"]["80x80"]) == (200.0, 100.0)
    assert rows["throttle_reasons"].dropna().to_dict() == {"80x80": "hardware_thermal"}
    assert rows["reason"]["1000x1000"].startswith(
        "OutOfMemoryError: sim out of memory. Tried to allocate 4000000 bytes"
    )
    replaced = "; the device did not recover, so the worker was replaced"
    assert (
        rows["reason"]["90x90"]
        == f"AcceleratorError: sim error: unspecified launch failure{replaced}"
    )
    assert rows["reason"]["100x100"] == f"AcceleratorError: sim error: the device is lost{replaced}"
    assert rows["reason"]["120x120"].startswith("stopped after limit.time_s=3 s, while ")


PHASES = """\
import json, torch
from tests.support import simulated_device as sim
sides = [torch.ones(1000, 1000, device=f"sim:{index}") for index in (0, 1)]
said = []
for second in (10, 11, 12, 13, 14):
    sim._scripted.wait_until(second + 0.5)
    for index, side in enumerate(sides):
        side.neg()
        device = sim._devices[index]
        lasted = round((device.end - device.start) * device.model.bandwidth_bytes_s / 8e6, 6)
        said.append((lasted, torch.sim.clock_rate(index), torch.sim.clocks_event_reasons(index)))
print(json.dumps(said))
"""


def test_a_clock_that_falls_in_phases_slows_what_begins_in_them_and_is_told() -> None:
    """Every 4 s for a second; the second device's phases lie between those of the first."""
    env = {**os.environ, **SIM, "SIM_PHASES": "4:1:0.5:0x40"}
    told = subprocess.check_output([sys.executable, "-c", PHASES], cwd=ROOT, env=env, text=True)
    calm, slow = [1.0, 1500, 0], [2.0, 750, 0x40]
    first, second = [calm, calm, slow, calm, calm], [slow, calm, calm, calm, slow]
    both = json.loads(told)
    assert (both[::2], both[1::2]) == (first, second)


def test_times_of_a_clock_that_falls_are_right_or_flagged(runner: Runner, tmp_path: Path) -> None:
    """For 2 s of 8, on one device after the other; a pair takes as long, and few readings."""
    rates = {"sim:0": 2e9, "sim:1": 5e9}
    words = ["-m", "op=add,relu", "size=800", "seed=0,1,2,3", "device=sim:0,sim:1", "timing=quick"]
    words += ["report.baseline={device: 'sim:0'}", "++op.differentiable=false", BACKEND]
    phases = {"SIM_PHASES": "8:2:0.5", "SIM_NOISE": "normal:0.05", "SIM_CLOCK": "scripted"}
    model = {"SIM_MODEL": "small,small", "SIM_BANDWIDTH_BYTES_S": "2e9,5e9", **phases}
    runner(*words, "hydra.sweep.dir=out", env=model)
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    off = (rows["median_s"] * rows["device"].map(rates) / rows["bytes"] - 1).abs()
    assert off.max() > 0.5  # there were phases
    assert rows[(off > 0.1) & rows["flags"].isna()].empty


def test_a_device_that_cannot_be_used_is_said_to_be(runner: Runner, tmp_path: Path) -> None:
    """Every kernel fails, as on one that another process has for itself."""
    faulty = {"SIM_FAULT": "fail@1"}
    runner("-m", "op=add", "size=8", "device=cpu,gpu", BACKEND, "hydra.sweep.dir=out", env=faulty)
    rows = pd.read_csv(tmp_path / "out" / "results.csv").set_index("device")
    assert rows["status"].to_dict() == {"cpu": "ok", "gpu": "unavailable"}
    failed = "gpu: sim:0 cannot be used (sim error: unspecified launch failure)"
    assert rows["reason"]["gpu"] == failed


def test_a_device_that_is_absent_is_said_to_be(runner: Runner, tmp_path: Path) -> None:
    runner("+sweep=transfer", BACKEND, "hydra.sweep.dir=out", env={"SIM_ABSENT": "1"})
    row = pd.read_csv(tmp_path / "out" / "transfers.csv").iloc[0]
    assert row["status"] == "unavailable"
    assert "finds no accelerator on this machine" in row["reason"]
