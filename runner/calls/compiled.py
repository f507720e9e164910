"""``compile=true``: an operation through torch.compile, and what that takes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from runner.calls.bound_operation import BoundOperation
from runner.errors import one_line


class NotCompiled(NotImplementedError):
    """torch.compile cannot compile the operation here; the message says why."""


def compiled(
    bound: BoundOperation,
    device: torch.device,
    run: Callable[[BoundOperation], Any],
    compilers: set[torch.device],
) -> tuple[BoundOperation, float]:
    """An operation whose callable is compiled for its size, and the seconds that this took.

    The seconds are those of the first compiled call: tracing, lowering, the C++ or Triton compiler, loading and one
    run. Nothing of it comes from a cache: torch._dynamo forgets what it has compiled, Inductor gets an empty folder,
    and it compiles in this process, so that no helper of its own is there when the call is timed. Not in it is
    starting the compiler, some 10 s once a worker, which a function of one addition pays for. The whole callable has
    to become one graph of fixed shapes: parts that would run as without torch.compile, and not say so, are an error.

    Args:
        bound: the operation.
        device: where it runs.
        run: calls an operation in the way in which it will be timed (inputs with a gradient are another graph).
        compilers: the devices for which this process has started the compiler; this one is added.

    Returns:
        the operation, whose values are to be compared with those of the callable as it was.

    Raises:
        NotCompiled: it cannot be compiled, for example without a C++ compiler.
        Exception: whatever the operation itself raises.
    """
    run(
        bound
    )  # whatever fails here is not for torch.compile to answer; and no library is loaded within its time
    try:
        if device not in compilers:
            _start_compiler(device)
            compilers.add(device)
        with _from_scratch():
            result = replace(
                bound, function=_through_compiler(bound.function), reference=bound.function
            )
            start = time.perf_counter()
            run(result)
            return result, time.perf_counter() - start
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise NotCompiled(_reason(bound, error)) from error


def in_own_dtype(bound: BoundOperation) -> BoundOperation:
    """An operation that goes through the compiler in its own dtype alone; in others, references say, it does not."""
    through, original = bound.function, bound.reference
    if original is None:
        return bound

    def call(*args: Any, **kwargs: Any) -> Any:
        is_own = any(_holds(argument, bound.dtype) for argument in (*args, *kwargs.values()))
        return (through if is_own else original)(*args, **kwargs)

    return replace(bound, function=call)


def _holds(argument: Any, dtype: torch.dtype) -> bool:
    """Whether an argument is a tensor of this dtype, or a list with one."""
    items = argument if isinstance(argument, list | tuple) else [argument]
    return any(isinstance(item, Tensor) and item.dtype is dtype for item in items)


def _through_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    def plain(
        *args: Any, **kwargs: Any
    ) -> Any:  # a builtin such as torch.matmul is compiled only inside a function
        return function(*args, **kwargs)

    return torch.compile(plain, fullgraph=True, dynamic=False)


def _start_compiler(device: torch.device) -> None:
    """Import what compiling needs and have the headers compiled that all operations share."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # read when Inductor is imported
    _through_compiler(lambda x: x + 1)(torch.ones(1, device=device))


def _reason(bound: BoundOperation, error: Exception) -> str:
    text = one_line(str(error).partition("Set TORCHDYNAMO_VERBOSE")[0])
    if "InvalidCxxCompiler" in text:
        return f"torch.compile needs a C++ compiler on the CPU; install g++ or clang++, or name one in CXX ({text})"
    return f"torch.compile cannot compile {bound.op.call} here: {text}"


@contextmanager
def _from_scratch() -> Iterator[None]:
    """Forget what has been compiled, and let nothing that is compiled be found on the disk."""
    torch._dynamo.reset()
    # a backward pass that is timed keeps its graph, so that its buffers may not be given away
    with _empty_cache(), torch._functorch.config.patch(donated_buffer=False):
        yield


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Inductor's folder for what it compiles: a new one, which is removed; what is loaded from it stays loaded."""
    from torch._inductor import utils

    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(
        prefix="opsweep-compile-", ignore_cleanup_errors=True
    ) as folder:
        os.environ[name] = folder
        utils.clear_caches()
        try:
            yield
        finally:
            utils.clear_caches()
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
