#!/usr/bin/env bash
# A SLURM cluster of this machine alone, on the loopback interface: `cluster.sh start FOLDER`, `cluster.sh stop FOLDER`.
# Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. `export SLURM_CONF=FOLDER/slurm.conf` to use it.
# Partition `low` is preempted by partition `high`, which queues its jobs again.
set -euo pipefail
action=$1
folder=$(mkdir -p "$2" && cd "$2" && pwd)
host=$(hostname -s)

start() {
  umask 022
  mkdir -p "$folder"/{state,spool,munge}
  chmod 700 "$folder/munge"
  head -c 1024 /dev/urandom > "$folder/munge/key"
  chmod 400 "$folder/munge/key"
  cat > "$folder/slurm.conf" <<EOF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=27817
SlurmdPort=27818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=30
MinJobAge=30
ReturnToService=2
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
EOF
  version=v1
  [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ] || version=v2
  printf 'CgroupPlugin=cgroup/%s\nCgroupAutomount=no\n' $version > "$folder/cgroup.conf"
  munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
  export SLURM_CONF=$folder/slurm.conf
  slurmctld -c
  slurmd
  for _ in $(seq 60); do
    if sinfo -h -o %T 2> /dev/null | grep -q -E '^(idle|mixed)'; then exit 0; fi
    sleep 0.5
  done
  tail -n 20 "$folder"/slurm*.log >&2
  exit 1
}

stop() {
  export SLURM_CONF=$folder/slurm.conf
  for file in "$folder"/slurmd.pid "$folder"/slurmctld.pid "$folder"/munge/pid; do
    if [ -f "$file" ]; then kill "$(cat "$file")" 2> /dev/null || true; fi
  done
}

"$action"
