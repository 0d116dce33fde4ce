#!/usr/bin/env bash
# Train on several machines. Run the same command on each, with its own RANK:
#   RANK=0 FIRST=10.0.0.1 bash train.sh --data my_data --recipe nuclei --out runs/my_model
# RANK: number of the machine, from 0 ($SLURM_NODEID). FIRST: address of machine 0. MACHINES: how many there are.
# PROCESSES: on each machine, usually its GPUs. The data and --out are on a disk that all machines share.
set -eu
machines=${MACHINES:-2}
exec accelerate launch --multi_gpu --num_machines "$machines" --num_processes "$((machines * ${PROCESSES:-1}))" \
    --machine_rank "$RANK" --main_process_ip "$FIRST" --main_process_port "${PORT:-29500}" -m condinst train "$@"
