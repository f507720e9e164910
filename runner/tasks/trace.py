"""``job=trace``: which calls a model makes, each with how often, as a workload's file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from runner.calls import Thunk
from runner.calls.bound_operation import is_differentiable, outputs_of
from runner.calls.whole_model import model_and_inputs, place_of
from runner.files import make_folder, write_atomically
from runner.rows.rows import TraceRow
from runner.tasks.in_model import share_of_calls
from runner.tasks.recorder import CannotBeReproducedError, Recorder, arguments_of, described
from runner.tasks.task import Task, TaskResult

RUNS = 5  # of the model, of which the median counts


def run(task: Task) -> TaskResult:
    """Record a model's calls, write them to a file, and say how much of its time they cover."""
    op, device = task.cell.operation, task.device
    task.report_step("building the model")
    place = place_of(op, task.memory_bytes)
    model, inputs = model_and_inputs(op, task.cell.seed, place)
    if place != "meta":
        model = model.to(device.torch)
        inputs = tree_map_only(Tensor, lambda tensor: tensor.to(device.torch), inputs)
    args, kwargs = inputs
    call: Thunk = partial(model, *args, **kwargs)

    task.report_step("recording its calls")
    dtype = _dtype_of(model, inputs)
    recorder = Recorder(model, dtype)
    with recorder.tracker, recorder:
        result = call()
    whole: dict[str, Any] = {"function": op.call, "passes": op.passes, "name": "model"}
    try:
        whole |= arguments_of(partial(described, dtype=dtype), args, kwargs)
    except CannotBeReproducedError as error:  # its calls can be all the same
        whole["reason"] = str(error)
    whole |= {"outputs": [list(t.shape) for t in outputs_of(result)]}

    model_s, covered = None, None
    if place != "meta":  # which does nothing that takes time
        task.report_step("timing the model")
        clock = device.clock(torch.get_num_threads())
        call()
        model_s = median(clock.time(call, 1).wall_s for _ in range(RUNS))
        covered = share_of_calls(call, recorder.order, recorder.reproduced, RUNS)

    calls = recorder.entries
    path = Path(task.cell.into, "workload", f"{op.name}.yaml")
    make_folder(path.parent, parents=True)
    command = f"python -m runner --config-dir {task.cell.into} workload={op.name}"
    write_atomically(path, _file_text(command, op.name, dtype, [whole, *calls]))
    row = replace(
        task.blank(TraceRow),
        passes=op.passes,
        calls=sum(entry["count"] for entry in calls),
        distinct=len(calls),
        not_reproduced=sum(entry["count"] for entry in calls if "reason" in entry),
        parameters_bytes=sum(p.nbytes for p in model.parameters()),
        model_s=model_s,
        covered=covered,
        on_meta=place == "meta",
        file=str(path),
    )
    return TaskResult([row])


def _dtype_of(model: nn.Module, inputs: Sequence[Any]) -> torch.dtype:
    """The first floating dtype of the parameters, or else of the inputs."""
    tensors = [*model.parameters(), *outputs_of(list(inputs))]
    floating = (t.dtype for t in tensors if is_differentiable(t.dtype))
    return next(floating, torch.float32)


def _file_text(command: str, name: str, dtype: torch.dtype, calls: list[dict[str, Any]]) -> str:
    import yaml  # which no other job needs

    lines = [f"# {command}", f"# The calls of a model, with PyTorch {torch.__version__}."]
    lines += [f"{name}:", f"  dtype: {str(dtype).removeprefix('torch.')}", "  calls:"]
    for call in calls:  # a line each
        text = yaml.safe_dump(call, default_flow_style=True, sort_keys=False, width=math.inf)
        lines.append(f"  - {text.strip()}")
    return "\n".join(lines) + "\n"
