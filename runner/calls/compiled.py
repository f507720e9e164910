"""``compile=default`` and its like: an operation through torch.compile, and what that takes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import chain
from typing import Any

import torch

from runner.calls.bound_operation import BoundOperation, outputs_of
from runner.config.operation import Operation
from runner.errors import one_line

# of Inductor, which sets Triton's where nobody else has
CACHE_VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


class NotCompiled(NotImplementedError):
    """torch.compile cannot compile the operation here; the message says why."""


def compiled(
    bound: BoundOperation,
    device: torch.device,
    run: Callable[[BoundOperation], Any],
    compilers: set[torch.device],
    *,
    mode: str = "default",
    dynamic: bool = False,
) -> tuple[BoundOperation, float]:
    """An operation whose callable is compiled for its size, and the seconds that this took.

    The seconds are those of the first compiled call: tracing, lowering, the C++ or Triton compiler,
    loading and one run. Nothing of it comes from a cache: torch._dynamo forgets what it has
    compiled, Inductor gets an empty folder, and it compiles in this process, so that no helper of
    its own is there when the call is timed. Not in it is starting the compiler, some 10 s once a
    worker, which a function of one addition pays for. The whole callable has to become one graph of
    fixed shapes, or with ``dynamic`` of any: parts that would run as without torch.compile, and not
    say so, are an error.

    The result's values are to be compared with the operation's. ``run`` calls it as it will be
    timed: inputs with a gradient are another graph. ``compilers`` are the devices for which this
    process has started the compiler; this one is added.

    Raises:
        NotCompiled: it cannot be compiled, for example without a C++ compiler.
        Exception: whatever the operation itself raises.
    """
    # what fails here is not for torch.compile to answer, and libraries are loaded before its time
    run(bound)
    try:
        if device not in compilers:
            _start_compiler(device)
            compilers.add(device)
        with _from_scratch():
            function = _through_compiler(bound.function, mode, dynamic=dynamic)
            right = bound.reference or bound.function
            result = replace(bound, function=function, reference=right, is_compiled=True)
            start = time.perf_counter()
            run(result)
            return result, time.perf_counter() - start
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise NotCompiled(_reason(bound, error)) from error


def by_its_reference(bound: BoundOperation, device: torch.device) -> BoundOperation:
    """An operation that is itself in its own dtype on its device; elsewhere it is its reference.

    One that is compiled is itself only at the size for which it was compiled, and an implementation
    at a shape that it refuses only where that is its own.
    """
    function, reference, op = bound.function, bound.reference, bound.op
    if reference is None:
        return bound

    # a call has a module's parameters too, and constants, and its inputs in whatever order
    def shapes_of(tensors: Iterable[torch.Tensor]) -> list[tuple[int, ...]]:
        return sorted(tuple(t.shape) for t in tensors if t.ndim)

    shapes = shapes_of(bound.draw())

    def call(*args: object, **kwargs: object) -> object:
        tensors = list(chain.from_iterable(map(outputs_of, (*args, *kwargs.values()))))
        is_own = any(t.dtype is bound.dtype and t.device.type == device.type for t in tensors)
        if bound.is_compiled:  # and nothing looks at each step, within which nothing is compiled
            is_own = is_own and not torch._C._len_torch_dispatch_stack()
            is_own = is_own and shapes_of(tensors) == shapes
        try:
            if is_own:
                return function(*args, **kwargs)
        except Exception:
            if op is op.declared or shapes_of(tensors) == shapes:
                raise
        return reference(*args, **as_declared(op, kwargs))

    return replace(bound, function=call)


def as_declared(op: Operation, kwargs: Mapping[str, object]) -> dict[str, object]:
    """What the reference gets by name, of what an implementation gets."""
    own, declared = op.kwargs, op.declared.kwargs
    kept = {k: v for k, v in kwargs.items() if k not in own or own[k] == declared.get(k)}
    return kept if own == declared else {**declared, **kept}


def _through_compiler(
    function: Callable[..., Any], mode: str = "default", *, dynamic: bool = False
) -> Callable[..., Any]:
    # a builtin such as torch.matmul is compiled only inside a function
    def plain(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return torch.compile(plain, fullgraph=True, mode=mode, dynamic=dynamic)


def _start_compiler(device: torch.device) -> None:
    """Import what compiling needs and have the headers compiled that all operations share."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # read when Inductor is imported
    # a backward pass that is timed or checked keeps its graph, so that its buffers stay its own
    import_module("torch._functorch.config").donated_buffer = False  # type: ignore[attr-defined]
    _through_compiler(lambda x: x + 1)(torch.ones(1, device=device))


def _reason(bound: BoundOperation, error: Exception) -> str:
    text = one_line(str(error).partition("Set TORCHDYNAMO_VERBOSE")[0])
    if "InvalidCxxCompiler" in text:
        needed = "a C++ compiler on the CPU; install g++ or clang++, or name one in CXX"
        return f"torch.compile needs {needed} ({text})"
    return f"torch.compile cannot compile {bound.op.call} here: {text}"


@contextmanager
def _from_scratch() -> Iterator[None]:
    """Forget what has been compiled, and let nothing that is compiled be found on the disk.

    Inductor gets a new folder, which is removed; what is loaded from it stays loaded.
    """
    from torch._inductor import utils  # takes seconds, and only what is compiled needs it

    torch._dynamo.reset()
    before = {name: os.environ[name] for name in CACHE_VARIABLES if name in os.environ}
    with tempfile.TemporaryDirectory(
        prefix="opsweep-compile-", ignore_cleanup_errors=True
    ) as folder:
        os.environ.update({name: os.path.join(folder, name) for name in CACHE_VARIABLES})
        utils.clear_caches()
        try:
            yield
        finally:
            utils.clear_caches()
            for name in CACHE_VARIABLES:
                os.environ.pop(name, None)
            os.environ.update(before)
