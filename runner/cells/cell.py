"""A cell: one combination of operation or case, size, dtype, device and the rest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner.config.axes import AXES, LAYOUTS, CellKey, label, named_value, not_of
from runner.config.cases import Case, read_case
from runner.config.dtypes import ITEM_BYTES, KIND_OF, KINDS
from runner.config.implementation import ALL, DEFAULT
from runner.config.keys import check_keys
from runner.config.operation import Implemented, Operation
from runner.config.parameters import parameters_in
from runner.config.schema import Config, Limit, Timing, check_ranges, check_values
from runner.config.signature import ELLIPSIS, Dimensions
from runner.config.size import BATCH, Size, parse_size, shape_text
from runner.config.workload.arguments import operation_fields
from runner.config.workload.call import NAME, Call
from runner.errors import ConfigError, one_line, suggestion

if TYPE_CHECKING:  # the worker, which gets its cells made, imports none of it
    from omegaconf import DictConfig

SCHEMA = Config()
DEFAULT_DTYPE = "float32"  # of an operation
Same = TypeVar("Same")
Definition = TypeVar("Definition", Operation, Case)
OF_TRACE = ("model", "inputs", "name", "into")
# of the rows and of what a cell's identity covers; a change makes old rows another schema's
SCHEMA_VERSION = 4
PLAIN = (*AXES, "job", "backend_module")
# without it PyTorch refuses deterministic products on CUDA, which reads it once in a process
# (https://docs.nvidia.com/cuda/cublas/#results-reproducibility)
CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
IDENTIFYING = sorted((*PLAIN, "schema", "dimensions", "definition", "timing"))

BUILT_IN = {
    "transfer": Operation(
        name="transfer",
        call="torch.Tensor.copy_",
        signature="bytes -> bytes",
        size=str(1024**3),
        dtypes=("integer",),
        differentiable=False,
        description="bytes copied between the host and a device; size is the most at a time",
    )
}
"""Built-in operations, for jobs that use none of ``conf/op``."""


@dataclass(frozen=True, kw_only=True, slots=True)  # a sweep may have 1,000,000
class Cell(CellKey):
    """One frozen combination: its value on each axis, and what else the configuration says."""

    job: str
    operation: Operation  # what ``op`` names, by the implementation that ``impl`` names
    requested_size: Size  # the size as it was asked for; ``size`` is the one that results show
    # the length of each dimension; None where the operation cannot take the size
    dimensions: Dimensions | None
    infeasible_reason: str  # why it cannot run at this size, dtype or direction; blank where it can
    timing: Timing
    limit: Limit
    backend_module: str | None
    on_contention: str  # what to do beside another sweep, flag or wait
    case: Case | None = None  # what is checked instead of the operation; None: the operation
    call: Call | None = None  # the entry of a workload that it is of
    into: str = ""  # of job=trace: the folder that gets the workload
    # what was asked for and says nothing to this job; blank: nothing. The cell has the defaults
    inapplicable_options: str = ""
    # a hash of all that determines what is measured; limits and descriptions do not
    identity: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Settle the identity."""
        texts = {name: _plain_text(getattr(self, name)) for name in PLAIN}
        texts["schema"] = str(SCHEMA_VERSION)
        texts["dimensions"] = _text_of(self.dimensions) if self.dimensions else "null"
        texts["definition"], texts["timing"] = _declared(self.definition), _timed(self.timing)
        content = ", ".join([f'"{name}": {texts[name]}' for name in IDENTIFYING])
        content += f', "call": {self.call.text}' if self.call else ""
        # a letter first, so that no CSV reader sees a number
        object.__setattr__(self, "identity", f"c{_digest(f'{{{content}}}')[:15]}")

    @property
    def definition(self) -> Operation | Case:
        """What the cell is of, as its file declares it: the case, or else the operation."""
        return self.case or self.operation

    @property
    def variant(self) -> str:
        """A short hash of the file and the timing, in which rows of the same names may differ.

        All implementations of an operation have the same.
        """
        definition = self.case or self.operation.declared
        return _variant(_declared(definition), _timed(self.timing))

    @property
    def has_implementation(self) -> bool:
        """Whether the operation has what ``impl`` names."""
        return self.impl == DEFAULT or isinstance(self.operation, Implemented)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the inputs and outputs; 0 where the operation cannot take the size."""
        if self.dimensions is None:
            return 0
        signature = self.operation.parsed
        shapes = map(self.dimensions.shape, signature.inputs + signature.outputs)
        return sum(map(math.prod, shapes)) * ITEM_BYTES[self.dtype]

    @property
    def inputs(self) -> str:
        """The inputs' shapes, and the lengths of what a size by name leaves out; blank: unknown."""
        signature, dimensions = self.operation.parsed, self.dimensions
        if dimensions is None:
            return ""
        shapes = ", ".join(shape_text(dimensions.shape(axes)) for axes in signature.inputs)
        named = {name for name, _ in self.requested_size.named}
        open_axes = signature.of_inputs - named - signature.formulas.keys() - {ELLIPSIS}
        left_out = [f"{axis}={dimensions.lengths[axis]}" for axis in sorted(open_axes)]
        if ELLIPSIS in signature.of_inputs and BATCH not in named:
            left_out.insert(0, f"{BATCH}=1")
        return f"{shapes}; left out: {', '.join(left_out)}" if named and left_out else shapes

    @property
    def compiling(self) -> dict[str, Any]:
        """How it is compiled: as its implementation is, or else as the axes say."""
        own = self.operation
        if isinstance(own, Implemented) and own.compile != "off":
            return {"mode": own.compile, "dynamic": own.dynamic}
        return {"mode": self.compile, "dynamic": self.dynamic}

    @property
    def is_compiled(self) -> bool:
        """Whether it goes through torch.compile."""
        return bool(self.compiling["mode"] != "off")

    @property
    def processes(self) -> int:
        """How many fresh processes run it, one after another."""
        return self.timing.processes if self.job == "benchmark" else 1

    @property
    def label(self) -> str:
        """The cell in a few words, for a progress line."""
        return label(self.job, self)


def _declared(definition: Operation | Case) -> str:
    """What a file declares, but for words for people."""
    return _text_of(definition, description="", hint="")


def _timed(timing: Timing) -> str:
    """How it is timed, whether or not it may be visited again, or asked for more."""
    unasked = [name for name in ("check", "energy_s") if not getattr(timing, name)]
    return _text_of(timing, [*unasked, "profile", "counts"], revisit_share=None)


def _text_of(
    item: Operation | Case | Timing | Dimensions, without: Sequence[str] = (), **instead: object
) -> str:
    """The fields of what does not change, as JSON, which is kept with it: many cells share it."""
    kept = vars(item)
    if "_text" not in kept:
        said = {**asdict(item), **instead}
        kept["_text"] = _dumped({key: said[key] for key in said if key not in without})
    return str(kept["_text"])


def _dumped(content: object) -> str:
    return json.dumps(content, sort_keys=True, default=str)


_plain_text = lru_cache(maxsize=4096, typed=True)(_dumped)  # of what can be a key; 1 is not True


@lru_cache(maxsize=1024)
def _variant(declared: str, timed: str) -> str:
    return f"v{_digest(f'[{declared}, {timed}]')[:6]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Family:
    """Cells that differ in size and seed alone: what they share has been read and checked."""

    def __init__(
        self, values: dict[str, Any], operation: Operation, case: Case | None, **shared: Any
    ) -> None:
        self._values, self._operation, self._case, self._shared = values, operation, case, shared
        self._of_size: dict[str, dict[str, Any]] = {}

    def cell(self, **own: Any) -> Cell:
        """The cell of its ``own`` size and seed; ConfigError where a single one is wrong."""
        size, seed = (own.get(name, self._values[name]) for name in ("size", "seed"))
        check_ranges({"seed": seed})
        sized = self._of_size.get(repr(size)) or self._sized(size)
        return Cell(**self._shared, **sized, seed=seed, operation=self._operation, case=self._case)

    def _sized(self, size: object) -> dict[str, Any]:
        values = {**self._values, "size": size}
        own = _sized_by_case(self._case, values) if self._case else _sized(self._operation, values)
        call = self._shared["call"]
        own |= {"infeasible_reason": call.reason} if call and call.reason else {}
        self._of_size[repr(size)] = own
        return own


class CellReader:
    """Makes cells of composed configurations; what many of them share is read and kept once."""

    def __init__(self) -> None:
        self._definitions: dict[str, Operation | Case] = {}
        self._values: dict[str, Any] = {}

    def family(self, values: dict[str, Any], overrides: Sequence[str] = ()) -> Family:
        """Read a configuration's values; ConfigError where a single one is wrong.

        ``overrides`` are what it was composed by. Values that are right but do not go together give
        a cell that says so.
        """
        check_keys(values, SCHEMA)
        fields, own = values["op"], values["case"]
        case = self._once(f"case {own!r}", lambda: read_case(own)) if own else None
        call = Call.parse(values["call"]) if values["call"] else None
        _settle(values, case, call)
        check_values(values)

        # the job, the dtype and the values are right by now, each on its own
        options = _inapplicable_options(values)
        operation = BUILT_IN.get(values["job"]) if case is None else None
        impl = values["impl"]  # of a case it is the default by now
        if values["job"] == "trace":
            operation = _traced(values)
        elif call and call.function:
            fields = operation_fields(call)
        source = f"op file {fields.get('name') or '(no name)'}"
        operation = operation or self._once(
            f"{impl} {fields!r}", lambda: Operation.from_mapping(fields, source).implemented(impl)
        )
        made = {
            "op": (case or operation).name,
            "timing": Timing(**values["timing"]),
            "limit": Limit(**values["limit"]),
            "parameters": parameters_in(overrides, values["op"]),
        }
        of_axes = [name for name, axis in AXES.items() if axis.has_key]
        of_all = {*of_axes, "job", "backend_module", "on_contention"} - {"op", "size", "seed"}
        kept = {key: values[key] for key in of_all}
        shared = kept | {key: self._shared(value) for key, value in made.items()}
        of_call = {"call": call, "into": values["into"] or ""}
        return Family(values, operation, case, inapplicable_options=options, **of_call, **shared)

    def _once(self, key: str, read: Callable[[], Definition]) -> Definition:
        """What is declared by this key, read once for all the cells that have it."""
        if key not in self._definitions:
            self._definitions[key] = read()
        return self._definitions[key]  # type: ignore[return-value]  # of the kind that read makes

    def _shared(self, value: Same) -> Same:
        """The first value that was equal to this one: a sweep's many cells have few."""
        shared: Same = self._values.setdefault(repr(value), value)
        return shared


def cell_of(config: DictConfig, overrides: Sequence[str] = ()) -> Cell:
    """The cell of one configuration, see :meth:`CellReader.family`."""
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(config, resolve=True)
    return CellReader().family(values, overrides).cell()


def _settle(values: dict[str, Any], case: Case | None, call: Call | None) -> None:
    """Give job and dtype their defaults, by what is measured, and values their axes' names."""
    values |= {name: named_value(name, values[name]) for name in AXES if name in values}
    if values["job"] is None:  # blank is an error, which check_values names
        values["job"] = case.job if case else "benchmark"
    if values["dtype"] is None:
        of_call = call.dtype if call and call.function else DEFAULT_DTYPE
        values["dtype"] = case.dtype if case else of_call
    if case is None and values["job"] in BUILT_IN:
        values["dtype"] = KINDS[BUILT_IN[values["job"]].dtypes[0]][0]


def _sized(operation: Operation, values: dict[str, Any]) -> dict[str, object]:
    requested = parse_size(values["size"] if values["size"] is not None else operation.size)
    sized = {"size": str(values["size"]), "requested_size": requested, "dimensions": None}
    problem = _lacking(operation, values["impl"]) or _operation_problem(operation, values)
    try:
        dimensions = operation.bind(requested)
        size = operation.size_text(dimensions)
    except ConfigError as error:
        return {**sized, "infeasible_reason": str(error)}
    operation.check_formulas(dimensions)
    counts = [len(dimensions.shape(axes)) for axes in operation.parsed.inputs]
    layout = values["layout"]
    if layout != "contiguous" and not any(count in LAYOUTS[layout] for count in counts):
        problem = problem or f"op {operation.name} has no input with dimensions for layout={layout}"
    return {**sized, "size": size, "dimensions": dimensions, "infeasible_reason": problem}


def _inapplicable_options(values: dict[str, Any]) -> str:
    """Reset the axes that only a benchmark has in other jobs; returns what was asked for."""
    job = values["job"]
    of_trace = [key for key in OF_TRACE if values[key] and job != "trace"]
    if of_trace:
        return f"{of_trace[0]}={values[of_trace[0]]} goes only with job=trace; leave it out"
    if job == "trace" and values["dtype"] != DEFAULT_DTYPE:
        return f"dtype={values['dtype']}: job=trace takes the model's own dtype; leave it out"
    axes = not_of(job, of_case=bool(values["case"]))
    asked = {name: values[name] for name in axes if values[name] != AXES[name].default}
    values.update({name: AXES[name].default for name in asked})
    if not asked:
        return ""
    words = ", ".join(f"{key}={str(value).lower()}" for key, value in asked.items())
    without = {"autograd": "gradients are verified", "tensors": "tensors are checked"}
    does = without.get(job, f"job={job} runs")
    return f"{words} goes only with job=benchmark ({does} without); leave it out"


def _traced(values: Mapping[str, Any]) -> Operation:
    """What ``job=trace`` goes through; ConfigError where something of it is not given."""
    missing = [key for key in OF_TRACE if not values[key]]
    if missing:
        example = "job=trace model=my_pkg.make_model inputs=my_pkg.make_inputs name=mlp into=mine"
        raise ConfigError(f"job=trace needs {', '.join(missing)}: {example}")
    name = values["name"]
    if not NAME.fullmatch(name):
        raise ConfigError(f"name={one_line(name, 40)} is no name; give letters and digits")
    path = Path(values["into"], "workload", f"{name}.yaml")
    if path.exists():
        raise ConfigError(f"{path} is there already; give another name=, or take it away")
    made = {"name": name, "call": values["model"], "inputs_from": values["inputs"]}
    of_all: dict[str, Any] = {"signature": "n -> n", "size": "1", "differentiable": False}
    return Operation(**made, **of_all, passes=values["trace"]["passes"])


def _sized_by_case(case: Case, values: dict[str, Any]) -> dict[str, object]:
    problem = case.problem(values["dtype"])
    if values["job"] != case.job:
        problem = f"case {case.name} is checked by job={case.job}; leave job= out"
    if values["size"] is not None:
        problem = f"case {case.name} has inputs of its own; leave size= out"
    size = {"size": case.size, "requested_size": Size(), "dimensions": None}
    return {**size, "infeasible_reason": problem}


def _lacking(operation: Operation, impl: str) -> str:
    """What to say where an operation has no such implementation; blank where it has it."""
    if impl == DEFAULT or isinstance(operation, Implemented):
        return ""
    names = (DEFAULT, *operation.implementations)
    if impl == ALL:
        return f"impl={ALL} stands for {', '.join(names)}; give one of them, or -m for each"
    add = f"or add it with +op.implementations.{impl}=package.function"
    hint = f"{suggestion(impl, names)}; it has {', '.join(names)}, {add}"
    return f"impl={impl}: op {operation.name} has no such implementation{hint}"


def _operation_problem(operation: Operation, values: dict[str, Any]) -> str:
    """Why the operation cannot run so; blank where it can."""
    name, job, direction = operation.name, values["job"], values["direction"]
    dtype, kind = values["dtype"], KIND_OF[values["dtype"]]
    if job == "roof" and name != "matmul":
        measures = f"job=roof measures the op matmul, not {name}"
        return f"{measures}: its FLOP are the machine's peak; leave op out"
    if job == "tensors":
        return "job=tensors checks a case, not an operation; give one with case="
    if values["dynamic"] and values["compile"] == "off":
        return "dynamic=true is a way to compile; give compile=default too"
    if direction != "forward" and values["grad_mode"] != "enabled":
        return f"direction={direction} needs grad_mode=enabled, not {values['grad_mode']}"
    if job == "transfer" and values["device"] == "cpu":
        moves = "job=transfer moves data between the host and an accelerator"
        return f"{moves}, and device=cpu is the host"
    if not {kind, dtype} & {*operation.dtypes}:
        takes = ", ".join(operation.dtypes)
        return f"op {name} takes no {kind} dtype ({dtype}); it takes: {takes}"
    asker = "job=autograd" if job == "autograd" else f"direction={direction}"
    wants_gradient = job == "autograd" or direction != "forward"
    if wants_gradient and (not operation.has_gradient or kind not in ("floating", "complex")):
        return f"op {name} in {dtype} has no gradient, which {asker} needs"
    return ""
