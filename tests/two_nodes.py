"""A real Ray cluster of two nodes on loopback, alone in namespaces of its own, and one command run on it.

    python tests/two_nodes.py FOLDER [--kill-after N] [--nodes N] -- COMMAND...

Starts itself again in a network and a process namespace, so that nothing else can be reached, and every process ends
with it. Each node after the first has a host name and a process namespace too: to kill that node is to end all that
runs on it at once. Exit code 77: this machine makes no namespaces.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

NO_NAMESPACES = 77
NAMESPACES = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
NODE = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
START_LIMIT_S = 120.0


def can_make_namespaces() -> str:
    """Why not; blank where it can."""
    try:
        done = subprocess.run(
            [*NAMESPACES, "--uts", "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


def main() -> int:
    """Run the command on a cluster; returns its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill-after", type=int, help="kill the second node once so many chunks have landed")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--inside", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if not options.inside:
        reason = can_make_namespaces()
        if reason:
            print(f"no namespaces here: {reason}")
            return NO_NAMESPACES
        return subprocess.run([*NAMESPACES, sys.executable, __file__, "--inside", *sys.argv[1:]], check=False).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_ADDRESS="127.0.0.1:6379")
    nodes = [start(number, options.folder) for number in range(options.nodes)]
    await_nodes(len(nodes))
    process = subprocess.Popen(options.command)
    if options.kill_after is not None:
        while len(list(options.folder.glob("out/*/chunk.json"))) < options.kill_after and process.poll() is None:
            time.sleep(0.05)
        nodes[1].kill()  # and with it all that runs in its namespace
        print("killed the second node", flush=True)
    return process.wait()


def start(number: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start a node with two CPUs and one pretended GPU; it runs until it is killed."""
    ray = str(Path(sys.executable).with_name("ray"))
    role = ["--head", "--port=6379"] if number == 0 else ["--address=127.0.0.1:6379"]
    command = [ray, "start", *role, f"--node-ip-address=127.0.0.{number + 1}", "--num-cpus=2", "--num-gpus=1", "--block"]
    command += [f"--temp-dir={folder / 'ray'}", "--include-dashboard=false"] if number == 0 else []
    if number:
        await_nodes(number)
        command = [*NODE, "sh", "-c", f'hostname node{number + 1}; exec "$@"', "sh", *command]
    log = (folder / f"node{number + 1}.log").open("wb")
    return subprocess.Popen(command, stdout=log, stderr=log)


def await_nodes(count: int) -> None:
    """Wait until so many nodes have joined."""
    script = f"import ray; ray.init(log_to_driver=False, logging_level='error'); assert len(ray.nodes()) >= {count}"
    deadline = time.monotonic() + START_LIMIT_S
    while subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} nodes did not start")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
