#!/usr/bin/env bash
# A curette run over the nodes of a Slurm job, one process per node.
#
#   sbatch --nodes=4 deploy/slurm.sh pipeline.toml [more options of curette run]
#
# The pipeline's inputs and output must be on a file system (or store) that all nodes see. Submitting the same line again continues the run.
#SBATCH --job-name=curette
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=32G
#SBATCH --time=24:00:00
# Two minutes before the end of the time: what is open is finished and committed.
#SBATCH --signal=TERM@120
# A node that fails puts the job back into the queue, where it continues what is committed.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=curette-%j.log
set -euo pipefail

pipeline=${1:?usage: sbatch deploy/slurm.sh PIPELINE [OPTIONS]}
shift
curette=${CURETTE:-curette}
port=${CURETTE_PORT:-2101}
place=${CURETTE_JOB_FOLDER:-$PWD/curette-job-$SLURM_JOB_ID}

# The addresses of the processes, in the order of their numbers, and a secret that only this user can read.
mkdir -p "$place"
scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/\$/:$port/" > "$place/hosts"
(umask 077 && [ -s "$place/secret" ] || openssl rand -hex 32 > "$place/secret")

# Keeps this run apart from another one of the same pipeline on the same nodes.
export CURETTE_RUN_ID=$SLURM_JOB_ID

# Without --kill-on-bad-exit=0 Slurm would end all when one process ends; they meet again by themselves. `exec` hands signals on.
exec srun --kill-on-bad-exit=0 bash -c \
  'exec "$0" run "$1" --hosts "$2/hosts" --secret-file "$2/secret" --process "$SLURM_PROCID" --workers "$SLURM_CPUS_PER_TASK" "${@:3}"' \
  "$curette" "$pipeline" "$place" "$@"
