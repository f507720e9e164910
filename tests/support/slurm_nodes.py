"""A real Slurm of two nodes with a pretended GPU each, alone in namespaces of its own.

One command is run on it, which finds it by ``SLURM_CONF``. The script ``prolog`` beside that file
may give a node other variables, by ``$SLURMD_NODENAME``.

    python -m tests.support.slurm_nodes COMMAND...

It needs root and the distribution's ``slurm-wlm`` and ``munge``. Where it cannot be had, the
command is run all the same and finds the reason in ``NO_SLURM``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.two_nodes import NAMESPACES, can_make_namespaces

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "runuser", "ip", "mknod")
HOST = "opsweep"
NODES = {"node1": 17001, "node2": 17002}  # with their ports
START_LIMIT_S = 60.0
CONF = """
ClusterName=opsweep
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
TaskProlog={folder}/prolog
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=2,batch_sched_delay=0
JobRequeue=1
KillWait=5
GresTypes=gpu
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=2 \
RealMemory=2000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=YES State=UP
"""


def main() -> int:
    """Run the command with a Slurm, or with the reason why there is none; returns its exit code."""
    command = sys.argv[1:]
    if command[:1] == ["--inside"]:
        return inside(Path(command[1]), command[2:])
    if reason := why_not():
        return subprocess.call(command, env={**os.environ, "NO_SLURM": reason})
    folder = tempfile.mkdtemp(prefix="opsweep-slurm-", dir="/tmp")
    again = [sys.executable, "-m", "tests.support.slurm_nodes", "--inside", folder, *command]
    try:
        # the namespace's first process inherits what Slurm leaves behind; a shell waits for it
        shell = ["sh", "-c", '"$@"; exit $?', "sh"]
        return subprocess.call([*NAMESPACES, "--uts", "--mount", *shell, *again])
    finally:
        shutil.rmtree(folder)


def why_not() -> str:
    """Why there can be no Slurm here; blank where there can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(missing)} missing: apt-get install slurm-wlm munge iproute2 util-linux"
    return can_make_namespaces()


def inside(folder: Path, command: list[str]) -> int:
    """Start Slurm in this namespace, with which it ends, and run the command."""
    # Slurm resolves no name where there is no address but loopback's
    for words in ("link set lo up", "address add 192.0.2.1/32 dev lo"):
        subprocess.run(["ip", *words.split()], check=True)
    subprocess.run(["hostname", HOST], check=True)
    (folder / "hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
    subprocess.run(["mount", "--bind", str(folder / "hosts"), "/etc/hosts"], check=True)
    folder.chmod(0o755)
    (folder / "state").mkdir()
    start_munge(folder / "munge")
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=HOST))
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    (folder / "prolog").write_text("#!/bin/sh\n")
    (folder / "prolog").chmod(0o755)
    for name in NODES:
        (folder / f"spool-{name}").mkdir()
        subprocess.run(["mknod", str(folder / f"gpu-{name}"), "c", "1", "3"], check=True)
    gpus = [f"NodeName={name} Name=gpu File={folder}/gpu-{name}\n" for name in NODES]
    (folder / "gres.conf").write_text("".join(gpus))
    subprocess.run(["slurmctld"], check=True)
    for name in NODES:
        subprocess.run(["slurmd", "-N", name], check=True)
    await_nodes(folder)
    return subprocess.call(command)


def start_munge(folder: Path) -> None:
    """Start what Slurm's programs know each other by."""
    folder.mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    subprocess.run(["chown", "-R", "munge:", str(folder)], check=True)
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log"}
    options = [f"--{option}={folder / name}" for option, name in files.items()]
    options.append(f"--seed-file={folder / 'seed'}")
    subprocess.run(["runuser", "-u", "munge", "--", "munged", *options], check=True)


def await_nodes(folder: Path) -> None:
    """Wait until all nodes are idle."""
    deadline = time.monotonic() + START_LIMIT_S
    asked = ["sinfo", "-h", "-N", "-o", "%N %T"]
    while True:
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        if said.stdout.split("\n")[:-1] == [f"{name} idle" for name in NODES]:
            return
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
            raise SystemExit(f"Slurm's nodes did not start: {said}\n{logs}")
        time.sleep(0.3)


if __name__ == "__main__":
    sys.exit(main())
