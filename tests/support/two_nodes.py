"""A real Ray cluster of two nodes on loopback, alone in namespaces of its own.

One command run on it.

    python tests/support/two_nodes.py FOLDER [--files GLOB] [--end SIGNAL ...] -- COMMAND...

Starts itself again in a network and a process namespace, so that nothing else can be reached, and
every process ends with it. Each node after the first has a host name and a process namespace too:
to kill that node is to end all that runs on it at once. Exit code 77: this machine makes no
namespaces.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NO_NAMESPACES = 77
NAMESPACES = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
NODE = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
START_LIMIT_S = 300.0
SEEN = 100  # calls that two nodes make of a few cells: each is called some 40 times


def can_make_namespaces() -> str:
    """Why not; blank where it can."""
    try:
        done = subprocess.run(
            [*NAMESPACES, "--uts", "ip", "link", "set", "lo", "up"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


def main() -> int:
    """Run the command on a cluster; returns its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", help="wait for enough such files, and kill the second node")
    end_help = "or end the command by these signals, each time it is resumed with more files"
    parser.add_argument("--end", nargs="+", default=[], help=end_help)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--path", help="the second node's PYTHONPATH", default="")
    parser.add_argument("--inside", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if not options.inside:
        reason = can_make_namespaces()
        if reason:
            print(f"no namespaces here: {reason}")
            return NO_NAMESPACES
        command = [*NAMESPACES, sys.executable, __file__, "--inside", *sys.argv[1:]]
        os.execvp(command[0], command)  # whoever ends this process ends the namespace then
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ.update(
        RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_ADDRESS="127.0.0.1:6379"
    )
    nodes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(
        prefix="ray", dir="/tmp"
    ) as short:  # a socket's path has at most 107 characters
        for number in range(options.nodes):
            nodes.append(start(number, options, short))
            await_nodes(nodes, options, short)
        return run(options, nodes)


def run(options: argparse.Namespace, nodes: list[subprocess.Popen[bytes]]) -> int:
    """Run the command, and kill a node under it or end it where that was asked for."""
    command = options.command
    for number, name in enumerate(options.end, start=1):
        process = subprocess.Popen(command)
        await_files(options, process, SEEN * number)
        process.send_signal(getattr(signal, f"SIG{name}"))
        print(f"{name} ended it with {process.wait()}", flush=True)
        command = [word.replace("hydra.sweep.dir=", "resume=") for word in command]
    process = subprocess.Popen(command)
    if options.files is not None and not options.end:
        await_files(options, process, SEEN)
        nodes[1].kill()  # and with it all that runs in its namespace
        print("killed the second node", flush=True)
    return process.wait()


def await_files(options: argparse.Namespace, process: subprocess.Popen[bytes], enough: int) -> None:
    """Wait until there are enough files, or the command has ended."""
    while len(list(options.folder.glob(options.files))) < enough and process.poll() is None:
        time.sleep(0.05)


def start(number: int, options: argparse.Namespace, short: str) -> subprocess.Popen[bytes]:
    """Start a node with two CPUs and one pretended GPU; it runs until it is killed."""
    ray = str(Path(sys.executable).with_name("ray"))
    role = ["--head", "--port=6379"] if number == 0 else ["--address=127.0.0.1:6379"]
    command = [
        ray,
        "start",
        *role,
        f"--node-ip-address=127.0.0.{number + 1}",
        "--num-cpus=2",
        "--num-gpus=1",
        "--block",
    ]
    command += [
        "--block",
        *([f"--temp-dir={short}", "--include-dashboard=false"] if number == 0 else []),
    ]
    if number:
        command = [*NODE, "sh", "-c", f'hostname node{number + 1}; exec "$@"', "sh", *command]
    path = os.environ.get("PYTHONPATH", "")
    if number and options.path:
        path = f"{options.path}:{path}"
    log = (options.folder / f"node{number + 1}.log").open("wb")
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def await_nodes(
    nodes: list[subprocess.Popen[bytes]], options: argparse.Namespace, short: str
) -> None:
    """Wait until all nodes have joined; one that Ray found to be too slow is started again."""
    count = len(nodes)
    script = (
        "import ray; ray.init(log_to_driver=False, logging_level='error'); "
        f"assert sum(node['Alive'] for node in ray.nodes()) >= {count}"
    )
    deadline = time.monotonic() + START_LIMIT_S
    while subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False
    ).returncode:
        if time.monotonic() > deadline:
            log = options.folder / f"node{count}.log"
            raise SystemExit(f"a node did not start:\n{log.read_text()[-2000:]}")
        if nodes[-1].poll() is not None:
            nodes[-1] = start(count - 1, options, short)
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
