"""What moving a call's data between the host and a device costs, from the run's own transfers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from runner.rows.rows import BenchmarkRow, Row
from runner.stats.estimate import Estimate

MEMORY = "pageable"  # the host memory that a tensor has unless somebody pins it


@dataclass(frozen=True)
class TransferModel:
    """One direction's line through the measured times: latency + bytes / bandwidth.

    Attributes:
        latency_s: seconds that a transfer of nothing takes.
        bandwidth_bytes_per_s: bytes a second of a long one.
    """

    latency_s: Estimate
    bandwidth_bytes_per_s: Estimate

    def seconds(self, tensors: int, count: int) -> Estimate:
        """Seconds for so many tensors of so many bytes in all."""
        moving = (
            Estimate(float(count), float(count), float(count)).over(self.bandwidth_bytes_per_s) if count else NOTHING
        )
        return self.latency_s.times(tensors).plus(moving)


class Link(NamedTuple):
    """Which way data move.

    Attributes:
        device: as rows name it, ``cuda:0 NVIDIA A100``, or as asked where they do not.
        to_device: whether from the host to the device, or back.
        memory: the host's: pageable or pinned.
    """

    node: str | None
    device: str
    to_device: bool
    memory: str = MEMORY


NOTHING = Estimate(0.0, 0.0, 0.0)
Models = Mapping[Link, TransferModel]


def models_of(rows: Iterable[Row]) -> dict[Link, TransferModel]:
    """The lines that the run's rows of ``job=transfer`` hold, by direction; none from a fit that made no sense."""
    found = {}
    measured: Iterable[Any] = (row for row in rows if row.job == "transfer" and row.status == "ok")
    for row in measured:
        if not (row.bandwidth_bytes_per_s and row.latency_s is not None and row.latency_s >= 0):
            continue
        latency = Estimate(row.latency_s, row.latency_low_s, row.latency_high_s)
        ends = row.bandwidth_low_bytes_per_s, row.bandwidth_high_bytes_per_s
        link = Link(row.node, row.device_name or row.device, row.to_device, row.memory)
        found[link] = TransferModel(latency, Estimate(row.bandwidth_bytes_per_s, *ends))
    return found


def transfer_time(row: BenchmarkRow, models: Models) -> Estimate | None:
    """Seconds to bring a call's inputs to its device and its outputs back.

    Returns:
        nothing at all for the CPU; None where the run has not measured the transfers, or the row does not say what
        would have to be moved.
    """
    if row.device.partition(":")[0] == "cpu":
        return NOTHING
    device = row.device_name or row.device
    to, back = models.get(Link(row.node, device, True)), models.get(Link(row.node, device, False))
    if to is None or back is None or row.inputs is None or row.outputs is None:
        return None
    there = to.seconds(row.inputs, row.input_bytes or 0)
    return there.plus(back.seconds(row.outputs, row.output_bytes or 0))
