"""Processes that compete for the cores while something is measured, and end with who began them."""

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BUSY_S = 2, 10  # a neighbour in phases is busy for so long, and then idle for so long


@contextmanager
def neighbours(count: int, work: Callable[[int], None]) -> Iterator[None]:
    """So many processes that do ``work(number)``."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=work, args=(number,), daemon=True) for number in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def counting(number: int) -> None:
    """Do nothing but count."""
    parent = os.getppid()
    while os.getppid() == parent:  # not beyond its death, even if that comes as a signal
        sum(range(100_000))


def in_phases(number: int, idle_s: tuple[float, float] = BUSY_S) -> None:
    """Be busy in random phases: with arithmetic, or every second one with memory."""
    import torch

    torch.set_num_threads(1)
    numbers = torch.randn(4 * 1024 * 1024)
    parent = os.getppid()
    while os.getppid() == parent:
        busy_until = time.monotonic() + random.uniform(*BUSY_S)
        while time.monotonic() < busy_until and os.getppid() == parent:
            if number % 2:
                numbers.add_(1.0)
            else:
                sum(range(20_000))
        time.sleep(random.uniform(*idle_s))


def throughout(number: int) -> None:
    """Be busy in the same ways all the time."""
    in_phases(number, idle_s=(0.0, 0.0))
