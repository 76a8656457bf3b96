#!/usr/bin/env bash
# Distills a recipe as a Slurm job, on one node or many:
#
#   sbatch infra/slurm.sh mtt-cifar10-10ipc
#   sbatch --nodes=4 infra/slurm.sh mtt-cifar10-10ipc experts.workers=4 outer.workers=4 objective.segments=4
#
# Submit it with `stillhouse` on the PATH (an activated environment) and, unless all nodes share a home folder, with
# STILLHOUSE_STORE and MLFLOW_TRACKING_URI set. Several nodes become one Ray cluster for the length of the job, with a
# token of its own. Two minutes before the time limit, and on preemption, the run writes a checkpoint and the job is put
# back into the queue; the same command then continues it.
#SBATCH --job-name=stillhouse
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=stillhouse-%j.log
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: sbatch infra/slurm.sh RECIPE [KEY=VALUE]..." >&2; exit 2; }

preempted=0
running=()
forward() {  # SIGTERM: the driver writes its checkpoint and ends; Ray's nodes stay until it has
    preempted=1
    kill -TERM "$driver" 2>/dev/null || true
}
cleanup() {
    [ ${#running[@]} -eq 0 ] || kill -TERM "${running[@]}" 2>/dev/null || true
    [ -z "${folder:-}" ] || rm -rf "$folder"
}
trap cleanup EXIT

if [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
    # Every node of the job must see this folder; the token in it is for this job alone.
    folder=${STILLHOUSE_HOME:-$HOME/stillhouse}/slurm-$SLURM_JOB_ID
    mkdir -p -m 700 "$folder"
    (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$folder/ray-token")
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/ray-token RAY_USAGE_STATS_ENABLED=0
    head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)  # reads all: no broken pipe
    port=$((20000 + SLURM_JOB_ID % 20000))  # two jobs may share a node
    # One step per node, the head first: each `ray start --block` lives as long as the step.
    srun --nodes=1 --ntasks=1 --overlap -w "$head" ray start --head --block --port="$port" \
        --include-dashboard=false --disable-usage-stats &
    running+=($!)
    for try in $(seq 60); do
        srun --nodes=1 --ntasks=1 --overlap -w "$head" ray health-check --address="$head:$port" && break
        [ "$try" -lt 60 ] || { echo "no Ray head on $head after $try tries" >&2; exit 1; }
        sleep 2
    done
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --overlap -x "$head" \
        ray start --address="$head:$port" --block --disable-usage-stats &
    running+=($!)
    export RAY_ADDRESS=$head:$port
    stillhouse distill "$@" &  # Slurm runs this script on the first node, which is the head's
else
    stillhouse distill "$@" &
fi
driver=$!
trap forward TERM
code=0
wait "$driver" || code=$?
# A trapped signal ends `wait` early: the driver is still writing its checkpoint.
while kill -0 "$driver" 2>/dev/null; do code=0; wait "$driver" || code=$?; done
if [ "$preempted" = 1 ] && [ "$code" != 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
