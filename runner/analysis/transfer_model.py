"""What moving a call's data between the host and a device costs, from the run's own transfers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from runner.rows.rows import BenchmarkRow, Row, TransferRow
from runner.stats.estimate import Estimate

MEMORY = "pageable"  # the host memory that a tensor has unless somebody pins it


@dataclass(frozen=True)
class TransferModel:
    """One direction's line through the measured times: latency + bytes / bandwidth."""

    latency_s: Estimate  # seconds that a transfer of nothing takes
    bandwidth_bytes_per_s: Estimate  # bytes a second of a long one

    def seconds(self, tensors: int, count: int) -> Estimate:
        """Seconds for so many tensors of so many bytes in all."""
        latencies = self.latency_s.times(tensors)
        if not count:
            return latencies.plus(NOTHING)
        size = Estimate(float(count), float(count), float(count))
        return latencies.plus(size.over(self.bandwidth_bytes_per_s))


class Link(NamedTuple):
    """Which way data move."""

    node: str | None
    device: str  # as rows name it, ``cuda:0 NVIDIA A100``, or as asked where they do not
    to_device: bool  # whether from the host to the device, or back
    memory: str = MEMORY  # the host's: pageable or pinned


class BothWays(NamedTuple):
    """What moving data to a device and back costs."""

    to_device: TransferModel
    to_host: TransferModel


NOTHING = Estimate(0.0, 0.0, 0.0)
Models = Mapping[Link, TransferModel]


def models_of(rows: Iterable[Row]) -> dict[Link, TransferModel]:
    """The lines in rows of ``job=transfer``, by direction; none from a fit that made no sense."""
    models = {}
    for row in rows:
        if not isinstance(row, TransferRow) or row.status != "ok":
            continue
        if not row.bandwidth_bytes_per_s or row.latency_s is None or row.latency_s < 0:
            continue
        latency = Estimate(row.latency_s, row.latency_low_s, row.latency_high_s)
        ends = row.bandwidth_low_bytes_per_s, row.bandwidth_high_bytes_per_s
        bandwidth = Estimate(row.bandwidth_bytes_per_s, *ends)
        device, memory = row.device_name or row.device, row.memory or MEMORY
        link = Link(row.node, device, bool(row.to_device), memory)
        models[link] = TransferModel(latency, bandwidth)
    return models


def transfer_time(row: BenchmarkRow, models: Models) -> Estimate | None:
    """Seconds to bring a call's inputs to its device and its outputs back.

    It is :data:`NOTHING` for the CPU, and None where the run has not measured the transfers, or the
    row does not say what would have to be moved.
    """
    if row.device.partition(":")[0] == "cpu":
        return NOTHING
    ways = both_ways(row, models)
    if ways is None or row.inputs is None or row.outputs is None:
        return None
    inputs = ways.to_device.seconds(row.inputs, row.input_bytes or 0)
    return inputs.plus(ways.to_host.seconds(row.outputs, row.output_bytes or 0))


def both_ways(row: BenchmarkRow, models: Models) -> BothWays | None:
    """What moving data to the row's device costs; None where the run has not measured it."""
    device = row.device_name or row.device
    to_device, to_host = (models.get(Link(row.node, device, way)) for way in (True, False))
    return None if to_device is None or to_host is None else BothWays(to_device, to_host)
