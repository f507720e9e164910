"""The configuration's schema, and every check that needs neither torch nor the machine."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from runner.config.axes import AXES, COMPARED, AxisSettings, named_value
from runner.config.dtypes import ALIASES, KIND_OF
from runner.config.parameters import OF_OP, parameters_in
from runner.config.renamed import with_todays_names
from runner.config.workload.call import PASSES
from runner.errors import ConfigError, first_names, one_line, suggestion

if TYPE_CHECKING:  # the worker imports none of it
    from omegaconf import DictConfig

READING = ("report", "compare")
"""The jobs that measure nothing: they read the folders of runs."""
JOBS = ("benchmark", "autograd", "tensors", "transfer", "roof", "noise", "trace", *READING)
ON_CONTENTION = ("flag", "wait")
OF_THE_SWEEP = {
    *("resume", "resume_force", "retry", "stop_after", "exclude", "strict", "dry_run", "run"),
    *("output", "objective"),
}
"""The keys that cannot differ between cells."""
PAIRS = "[{op: matmul, size: 64}, {op: add, size: 128}]"  # cells as zip= lists them
JSON = "json"
OUTPUTS = ("table", JSON)
LANGUAGES = ("en", "ru")
EXPORTS = ("github_action_benchmark", "pytest_benchmark")  # runner/report/export.py makes them
CHECKS = ("profiler",)
COUNTS = ("instructions",)
MOST_THREADS = 1_024
LARGEST_SEED = 10**15  # a generator's seed is made of it and has 64 bits
DEFAULT_BASELINE = {"device": "cpu"}
ONE_AXIS = "one axis and its value, such as 'report.baseline={dtype: float32}'"
DEVICES = ("cpu", "gpu", "cuda", "xpu", "mps", "mtia", "hpu", "npu")
LONGEST_S = 10**8  # three years, and more than anything is counted
RANGES: Mapping[str, tuple[float, float]] = {
    "threads": (1, MOST_THREADS),
    "seed": (0, LARGEST_SEED),
    "timing.min_samples": (1, LONGEST_S),
    "timing.processes": (1, 1_000),
    "timing.revisit_share": (0, 1),  # a sweep waits at most as long as it measures
    "limit.memory_bytes": (1, 2**60),
    "compare.processes": (1, 1_000),
    "compare.slower_than": (0, 100),
    "compare.more_instructions": (0, 100),
    "compare.unclear_exit": (0, 255),
    "stop_after": (1, LONGEST_S),
    "report.same_within": (0, 100),
    "report.calls_per_transfer": (1, 10**12),
    "cluster.cells_per_chunk": (1, LONGEST_S),
    "cluster.chunk_time_s": (1, LONGEST_S),
}
"""The least and the most that a number may be, which are allowed themselves."""
ANY = (0, LONGEST_S)  # of every other setting that is a number, such as seconds
POSITIVE: tuple[str, ...] = ("timing.precision", "timing.max_time_s", "timing.block_s")
POSITIVE += ("limit.time_s", "limit.build_time_s")


@dataclass
class Timing:
    """When sampling stops, and how it goes about it."""

    # the half-width of the median's 95 % interval, relative to the median, at which sampling stops
    precision: float = 0.01
    # seconds after which sampling stops, however wide the interval is; those of slow moments are
    # patience_s's, as far as that goes
    max_time_s: float = 1.0
    min_samples: int = 30  # the fewest samples, unless the time is up
    max_samples: int = 10_000  # the most samples
    # seconds that a sample, a block of calls, is to take: long against the clock's resolution,
    # short against a scheduler's slice
    block_s: float = 0.0005
    warmup_s: float = 0.2  # the most seconds that warming up may take
    # the most seconds that a cell loses to slow moments of the machine: it waits for a calm one, or
    # measures what does not count; they are in neither max_time_s nor a limit
    patience_s: float = 6.0
    # of a sweep's time, that visiting again may take: cells that found no calm moment, when the
    # others are done
    revisit_share: float = 1.0
    # fresh processes that measure the cell, whose spread the interval then covers
    processes: int = 1
    # what asks for a second opinion of an accelerator's time: profiler (which kernels ran, and for
    # how long); None: nothing
    check: str | None = None
    # seconds of calls, over which their energy is counted; None: it is not
    energy_s: float | None = None
    # whether a trace of some calls is left in the cell's folder, with what takes most of their time
    profile: bool = False
    # what of a call is counted beside its time: instructions (on the CPU with one thread, by the
    # processor or else by Valgrind); None: nothing
    counts: str | None = None


@dataclass
class Limit:
    """What a cell may take before it is ended; ``conf/config.yaml`` says what each is."""

    time_s: float = 30.0
    build_time_s: float = 300.0
    memory_bytes: int | None = None


@dataclass
class Report:
    """What is compared with what; ``conf/config.yaml`` says what each is."""

    baseline: Any = None
    same_within: float = 0.01
    calls_per_transfer: int = 100
    compare_across_nodes: bool = False
    language: str | None = None
    export: Any = None  # a list of EXPORTS

    @classmethod
    def of(cls, config: DictConfig) -> Report:
        """The ``report`` part of a whole configuration."""
        return cls(**_plain(config.report))

    @property
    def axis(self) -> str:
        """The axis along which rows are compared."""
        key = str(next(iter(self.baseline or DEFAULT_BASELINE)))
        return "parameters" if key.startswith(OF_OP) else key

    @property
    def value(self) -> str:
        """The baseline's value on that axis."""
        ((key, value),) = (self.baseline or DEFAULT_BASELINE).items()
        if key.startswith(OF_OP):
            return parameters_in([f"{key}={value}"]) or ""
        return str(named_value(key, value))

    def check_baseline(self, those: Iterable[str], one: str, whose: str) -> None:
        """Refuse a baseline that the user gave and nothing has.

        ``those`` are the values on the axis, of which each ``one`` has one and ``whose`` are all.
        """
        values = list(dict.fromkeys(those))
        if self.baseline is not None and self.value not in values:
            side = f"{self.axis}={self.value}"
            raise ConfigError(
                f"report.baseline: no {one} has {side}; {whose} values are {first_names(values)}"
            )


@dataclass
class Compare:
    """How cells that are compared with each other are measured."""

    in_turn: bool = True  # together, one after the other again and again; otherwise each on its own
    # between which the visits to the sides are shared; None: two, or one where
    # ``timing.max_time_s`` is below 1 s, and several with ``job=ab``
    processes: int | None = None
    # whether a run fails where something is slower than its baseline, as job=compare and job=ab do
    gate: bool = False
    slower_than: float = 0.05  # the relative difference that gates call a failure
    more_instructions: float = 0.01  # the same of counted instructions
    unclear_exit: int = 4  # their exit code where too few cells could have shown such a difference

    @classmethod
    def of(cls, config: DictConfig) -> Compare:
        """The ``compare`` part of a whole configuration."""
        return cls(**_plain(config.compare))

    def check_gate(self, report: Report) -> None:
        """Refuse a gate that could never pass, and a percentage that was taken for a share."""
        for name in ("slower_than", "more_instructions"):
            if (share := getattr(self, name)) > 1:
                raise ConfigError(f"compare.{name}={share:g} is {100 * share:g} %; 0.05 is 5 %")
        if self.slower_than <= report.same_within:
            least, same = self.slower_than, f"report.same_within={report.same_within:g}"
            why = "which counts as the same, so that no cell could show it"
            raise ConfigError(f"compare.slower_than={least:g} is within {same}, {why}; 0.05 is 5 %")


@dataclass
class AbSide:
    """One of the environments of ``job=ab``; ``conf/config.yaml`` says what each is."""

    python: str | None = None
    path: str | None = None
    env: Any = None


@dataclass
class Ab:
    """The environments of ``job=ab``: that which was, and the one that is compared with it."""

    a: AbSide = field(default_factory=AbSide)
    b: AbSide = field(default_factory=AbSide)


@dataclass
class Trace:
    """How ``job=trace`` goes through a model."""

    passes: str = "forward"  # of :data:`runner.config.workload.call.PASSES`


@dataclass
class ClusterConfig:
    """Where a sweep's cells run, and in what portions they are sent."""

    name: str | None = None  # ray or slurm; blank: this machine
    # cells in a chunk; blank: as many as are expected to take ``chunk_time_s``
    cells_per_chunk: int | None = None
    chunk_time_s: float = 300.0  # seconds that a chunk is to take
    retries: int = 1  # how many times the cells of a lost job are sent again
    # whether cells that are compared with each other go to the same node
    colocate_comparisons: bool = True
    samples: bool = True  # whether the raw blocks are kept
    launcher: Any = None  # what the launcher plugin of the same name takes


@dataclass
class Sweep:
    """What a sweep may take; a file of ``conf/sweep`` is chosen by ``+sweep=``."""

    max_cells: int = 1_000_000


@dataclass
class Config(AxisSettings):  # type: ignore[misc]  # made from the table of axes
    """What ``conf/config.yaml`` holds and explains: a key for each axis, and the rest."""

    case: dict[str, Any] = field(default_factory=dict)
    job: str | None = None
    timing: Timing = field(default_factory=Timing)
    limit: Limit = field(default_factory=Limit)
    report: Report = field(default_factory=Report)
    compare: Compare = field(default_factory=Compare)
    zip: list[Any] = field(default_factory=list)
    cells: str | None = None
    workload: dict[str, Any] = field(default_factory=dict)
    call: str | None = None
    model: str | None = None
    inputs: str | None = None
    name: str | None = None
    into: str | None = None
    trace: Trace = field(default_factory=Trace)
    ab: Ab = field(default_factory=Ab)
    exclude: list[Any] = field(default_factory=list)
    sweep: Sweep = field(default_factory=Sweep)
    dry_run: bool = False
    output: str = "table"
    objective: str | None = None
    strict: bool = False
    run: Any = None
    against: Any = None
    resume: str | None = None
    resume_force: bool = False
    retry: Any = field(default_factory=list)
    stop_after: int | None = None
    on_contention: str = "flag"
    backend_module: str | None = None
    cluster: ClusterConfig = field(default_factory=ClusterConfig)


def check_values(values: dict[str, Any]) -> None:
    """Check each value of a composed configuration on its own, with job and dtype settled."""
    if values["job"] == "ab":
        advice = "say it on the command line, as in: job=ab +sweep=NAME"
        raise ConfigError(f"job: ab in a file would start no second environment; {advice}")
    _one_of("job", values["job"], JOBS)
    _one_of("dtype", values["dtype"], KIND_OF)
    check_report(values["report"])
    _one_of("on_contention", values["on_contention"], ON_CONTENTION)
    _one_of("trace.passes", values["trace"]["passes"], PASSES)
    for key, allowed in (("check", CHECKS), ("counts", COUNTS)):
        if values["timing"][key] is not None:
            _one_of(f"timing.{key}", values["timing"][key], allowed)
    _one_of("output", values["output"], OUTPUTS)
    for axis in AXES.values():
        if axis.choices:
            _one_of(axis.name, values[axis.name], axis.choices)
    _check_device(values["device"], values["backend_module"])
    _check_numbers(values)


def check_report(values: Mapping[str, Any]) -> None:
    """Check each value of a report's settings on its own, also of one that was written down."""
    if values["language"] is not None:
        _one_of("report.language", values["language"], LANGUAGES)
    for name in _listed("report.export", values["export"], EXPORTS):
        _one_of("report.export", name, EXPORTS)
    _check_baseline(values["baseline"])
    check_ranges({f"report.{key}": value for key, value in values.items()})


def _plain(part: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(part, resolve=True)  # type: ignore[return-value]  # keys are text


def settings_of(stored: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What of stored settings a report can have, by today's names, and a line for each other."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    todays = with_todays_names({f"report.{key}": value for key, value in stored.items()}, "key")
    settings: dict[str, Any] = {}
    problems = []
    known = {f.name for f in fields(Report)}  # a newer release may have others
    for key, value in todays.items():
        name = key.removeprefix("report.")
        if name not in known:
            continue
        try:
            typed = OmegaConf.merge(OmegaConf.structured(Report), {name: value})
            check_report(OmegaConf.to_container(typed))  # type: ignore[arg-type]  # keys are text
            settings[name] = value
        except (ConfigError, OmegaConfBaseException, ValueError, TypeError):
            problems.append(f"{one_line(key, 60)} is {one_line(value, 60)}; it is not used")
    return settings, problems


def _check_device(device: str, backend_module: str | None) -> None:
    kind = device.partition(":")[0]
    is_known = kind in DEVICES or backend_module
    is_spelt = re.fullmatch(r"[a-z][a-z0-9_]*(:\d+)?", device) and not device.startswith("cpu:")
    if not is_known or not is_spelt:
        hint = suggestion(kind, DEVICES)
        raise ConfigError(
            f"device={device} is unknown{hint}; allowed: {', '.join(DEVICES)}, "
            "with an index such as cuda:1, or a device that backend_module=... adds"
        )


def _check_numbers(values: Mapping[str, Any]) -> None:
    numbers = dict(values)
    for part in ("timing", "limit", "compare"):
        numbers |= {f"{part}.{key}": value for key, value in values[part].items()}

    # where 0 or infinity would never end, or end at once
    for key in POSITIVE:
        if not 0 < numbers[key] < math.inf:
            raise ConfigError(f"{key}={numbers[key]:g} is out of range; give a positive number")
    most, least = numbers["timing.max_samples"], numbers["timing.min_samples"]
    if most < least:
        raise ConfigError(f"timing.max_samples={most} is too small; give {least} or more")
    check_ranges(numbers)


def check_ranges(numbers: Mapping[str, Any]) -> None:
    """Refuse what is below the least or above the most, or is no number at all."""
    for key, number in numbers.items():
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not (key in RANGES or "." in key):
            continue
        least, most = RANGES.get(key, ANY)
        if not number >= least:
            raise ConfigError(f"{key}={number} is too small; give {least} or more")
        if number > most:
            raise ConfigError(f"{key}={number} is too large; give {most} or less")


def _check_baseline(baseline: object) -> None:
    keys = list(baseline) if isinstance(baseline, dict) else []
    one_axis = len(keys) == 1 and (keys[0] in COMPARED or str(keys[0]).startswith(OF_OP))
    if baseline is not None and not one_axis:
        raise ConfigError(
            f"report.baseline={baseline} is not {ONE_AXIS}; "
            f"the axes are {', '.join(COMPARED)}, and op.kwargs.NAME"
        )


def _listed(key: str, given: object, allowed: Collection[str]) -> list[str]:
    """The names of a list that may be left out."""
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        names = f"[{', '.join(allowed)}]"
        raise ConfigError(f"{key}={given} is no list of names; give {names} or one of them")
    return given


def _one_of(key: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        what = f"unknown{suggestion(ALIASES.get(value, value), allowed)}" if value else "empty"
        raise ConfigError(f"{key}={value} is {what}; allowed: {', '.join(allowed)}")
