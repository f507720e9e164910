"""A simulated accelerator whose true times are known: what its environment variables say."""

PEAK, BANDWIDTH, LAUNCH = 5e10, 1e9, 100e-6  # FLOP a second, bytes a second, seconds
SLOW = 4e7
"""Bytes a second of another, whose kernels are long beside what a busy machine does to a clock."""
COPY = {"pageable": (8e-3, 1e8), "pinned": (4e-3, 2e8)}  # latency and bandwidth
MODEL = {
    "SIM_MODEL": "small,small",
    "SIM_PEAK_FLOP_S": f"{PEAK}",
    "SIM_BANDWIDTH_BYTES_S": f"{BANDWIDTH},{SLOW}",
    "SIM_LAUNCH_S": f"{LAUNCH}",
    "SIM_COPY_LATENCY_S": f"{COPY['pageable'][0]}",
    "SIM_COPY_BYTES_S": f"{COPY['pageable'][1]}",
    "SIM_PINNED_LATENCY_S": f"{COPY['pinned'][0]}",
    "SIM_PINNED_BYTES_S": f"{COPY['pinned'][1]}",
}
