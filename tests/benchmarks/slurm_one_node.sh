#!/usr/bin/env bash
# A real Slurm of one node with two pretended GPUs, and a sweep of 40 cells on it. Run as root on Debian or Ubuntu:
#
#     tests/benchmarks/slurm_one_node.sh
#
# Installs slurm-wlm and munge where they are missing, configures both under a temporary folder, and runs all in a
# network namespace of its own, with which every process ends. PYTHON names an interpreter that has opsweep[slurm].
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=$(realpath -s "${PYTHON:-.venv/bin/python}")
if ! command -v slurmctld munged >/dev/null || ! command -v slurmd >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi
if [ "${1:-}" != inside ]; then
    folder=$(mktemp -d /tmp/opsweep-slurm-XXXXXX)
    trap 'rm -rf "$folder"' EXIT
    PYTHON=$PYTHON unshare --net --pid --fork --mount-proc --uts "$0" inside "$folder"
    exit
fi
folder=$2
export PYTHONPATH=$PWD TMPDIR=$folder  # device locks of its own
hostname opsweep-node
ip link set lo up
ip address add 192.0.2.1/32 dev lo  # Slurm resolves nothing where there is no address but loopback's (AI_ADDRCONFIG)
mkdir -p "$folder"/{munge,state,spool}
dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 status=none
mknod "$folder/gpu0" c 1 3 && mknod "$folder/gpu1" c 1 3  # pretended: what /dev/null is
chmod 755 "$folder"; chmod 600 "$folder/munge/key"; chown -R munge: "$folder/munge"; chmod 755 "$folder/munge"
runuser -u munge -- munged 2>"$folder/munged.err" --socket="$folder/munge/socket" --key-file="$folder/munge/key" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
cat >"$folder/slurm.conf" <<CONF
ClusterName=opsweep
SlurmctldHost=opsweep-node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=2,batch_sched_delay=0
GresTypes=gpu
NodeName=opsweep-node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=YES State=UP
CONF
cat >"$folder/gres.conf" <<CONF
NodeName=opsweep-node Name=gpu File=$folder/gpu[0-1]
CONF
echo "127.0.0.1 localhost opsweep-node" >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts  # in this mount namespace
export SLURM_CONF=$folder/slurm.conf
slurmctld
slurmd
for _ in $(seq 60); do [ "$(sinfo -h -o %T 2>/dev/null || true)" = idle ] && break; sleep 0.5; done
sinfo -o "%n %T %c CPUs %G" || { tail "$folder"/*.log; exit 1; }
rm -rf "$folder/out"
"$PYTHON" -m runner -m op=add,mul,sum,relu,exp "size=8,16,32,64" device=cpu,gpu timing=minimal \
    cluster=slurm cluster.cells_per_job="${CELLS_PER_JOB:-10}" hydra.sweep.dir="$folder/out"
"$PYTHON" - "$folder/out" <<'PY'
import json, sys
from pathlib import Path
import pandas as pd

root = Path(sys.argv[1])
rows = pd.read_csv(root / "results.csv")
print(len(rows), "rows:", rows.groupby(["device", "status"]).size().to_dict())
for path in sorted(root.glob("*/chunk.json"), key=lambda path: int(path.parent.name.partition("_")[0])):
    chunk = json.loads(path.read_text())
    print("job", chunk["job"], "of", len(chunk["cells"]), "cells, CUDA_VISIBLE_DEVICES =", chunk["variables"].get("CUDA_VISIBLE_DEVICES"), "from", chunk["started"][11:19], "to", chunk["ended"][11:19])
PY

echo "-- 12 slow cells in 3 jobs, the first of which is cancelled while it runs"
mkdir -p "$folder/mine/op"
echo "import time
def slow(x):
    time.sleep(0.3)
    return x * 2" >"$folder/slow_op.py"
echo 'name: slow
call: slow_op.slow
signature: "... -> ..."
differentiable: false' >"$folder/mine/op/slow.yaml"
export PYTHONPATH=$PYTHONPATH:$folder
"$PYTHON" -m runner --config-dir "$folder/mine" -m op=slow "size=$(seq -s, 2 13)" timing=minimal device=cpu \
    cluster=slurm cluster.cells_per_job=4 hydra.sweep.dir="$folder/lost" &
sweep=$!
until [ "$(cat "$folder"/lost/.submitit/*.messages 2>/dev/null | wc -c)" -gt 4500 ]; do sleep 0.2; done
job=$(squeue -h -t RUNNING -o %i | sort -n | head -n 1)
scancel "$job" && echo "cancelled job $job"
wait $sweep
"$PYTHON" -c "import pandas as pd; rows = pd.read_csv('$folder/lost/results.csv'); print(len(rows), 'rows:', rows['status'].value_counts().to_dict())"
