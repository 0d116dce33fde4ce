#!/usr/bin/env bash
#SBATCH --job-name=segment
#SBATCH --array=1-8
#SBATCH --cpus-per-task=16
#SBATCH --requeue
# Segment very many pictures on eight machines of SLURM: sbatch slurm.sh LIST OUT
# LIST has a picture on each line. Both paths are on a disk that all machines share.
# Start it again after a failure: each task predicts the shards that are missing.
set -eu
exec condinst predict "@$1" --model nuclei --out "$2" --workers "$SLURM_CPUS_PER_TASK" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
