"""A real Slurm cluster of one node on this machine: ``python tests/slurm/cluster.py start`` or ``stop``.

Needs root and Debian's ``slurm-wlm`` and ``munge``. The node passes two other devices off as GPUs, so that jobs ask for
them as on a real cluster; there is no accounting. A machine that belongs to another cluster is left alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CONF = Path("/etc/slurm/slurm.conf")  # jobs look nowhere else
GRES = CONF.with_name("gres.conf")
STATE = Path("/tmp/ssa-slurm")
OURS = "# A cluster of one node for tests\n"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")


def why_not() -> str:
    """Why a cluster cannot be started here; empty where it can."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        return f"needs {', '.join(missing)}: apt-get install slurm-wlm munge"
    if os.getuid() != 0:
        return "needs root, to start Slurm's daemons"
    if CONF.exists() and not CONF.read_text(encoding="utf-8").startswith(OURS):
        return f"{CONF} is another cluster's"
    return ""


def configuration() -> str:
    """The contents of slurm.conf."""
    host, cores = socket.gethostname(), os.cpu_count()
    memory = 64_000  # MB, said to be there: small studies ask for what real ones need
    settings = {
        **{"ClusterName": "one", "SlurmctldHost": f"{host}(127.0.0.1)", "SlurmUser": "root", "SlurmdUser": "root"},
        **{"StateSaveLocation": STATE / "ctld", "SlurmdSpoolDir": STATE / "d", "MpiDefault": "none"},
        **{"SlurmctldPidFile": STATE / "slurmctld.pid", "SlurmdPidFile": STATE / "slurmd.pid"},
        **{"SlurmctldLogFile": STATE / "slurmctld.log", "SlurmdLogFile": STATE / "slurmd.log"},
        **{"ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none", "GresTypes": "gpu"},
        **{"JobCompType": "jobcomp/filetxt", "JobCompLoc": STATE / "jobs.txt"},
        **{"AccountingStorageType": "accounting_storage/none", "JobAcctGatherType": "jobacct_gather/none"},
        **{
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory",
            "ReturnToService": "2",
            "EnforcePartLimits": "ALL",
        },
        **{
            "SlurmdParameters": "config_overrides",
            "SchedulerParameters": "sched_interval=1",
            "KillWait": "20",
            "SlurmdTimeout": "10",
        },
        **{"OverTimeLimit": "0", "JobRequeue": "0"},
    }
    node = f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:h100:2 State=UNKNOWN"
    shared = f"Nodes={host} MaxTime=2-0 DefMemPerCPU=500 State=UP"
    partitions = f"PartitionName=test Default=YES {shared}\nPartitionName=gpu {shared}"
    return OURS + "".join(f"{key}={value}\n" for key, value in settings.items()) + f"{node}\n{partitions}\n"


def start() -> None:
    """Start munge and Slurm, and wait until the node is idle."""
    if reason := why_not():
        raise SystemExit(reason)
    stop()
    STATE.mkdir(mode=0o755)
    for folder in ("ctld", "d"):
        (STATE / folder).mkdir()
    CONF.parent.mkdir(exist_ok=True)
    CONF.write_text(configuration(), encoding="utf-8")
    GRES.write_text(f"{OURS}Name=gpu Type=h100 File=/dev/null\nName=gpu Type=h100 File=/dev/zero\n", encoding="utf-8")
    _start_munge()
    for daemon in ("slurmctld", "slurmd"):
        start_daemon(daemon)
    _wait(lambda: _said("sinfo", "-h", "-o", "%T") == "idle", "the node to be idle")


def start_daemon(name: str) -> None:
    """Start slurmctld or slurmd."""
    subprocess.run([name], check=True, stdin=subprocess.DEVNULL)


def pid(daemon: str) -> int | None:
    """The process of slurmctld, slurmd or munged, where it runs."""
    try:
        found = int((STATE / f"{daemon}.pid").read_text(encoding="utf-8"))
        os.kill(found, 0)
    except (OSError, ValueError):
        return None
    return found


def stop() -> None:
    """Cancel all jobs, stop the daemons that :func:`start` started, and remove their files."""
    if pid("slurmctld"):
        _said("scancel", "--state=RUNNING")
        _said("scancel", "--state=PENDING")
        _wait(lambda: not _said("squeue", "-h", "-t", "RUNNING,COMPLETING"), "jobs to end", needed=False)
    for daemon in ("slurmd", "slurmctld", "munged"):
        if found := pid(daemon):
            os.kill(found, signal.SIGTERM)
            _wait(lambda daemon=daemon: pid(daemon) is None, f"{daemon} to stop")
    shutil.rmtree(STATE, ignore_errors=True)
    for path in (CONF, GRES):
        if path.exists() and path.read_text(encoding="utf-8").startswith(OURS):
            path.unlink()


def _start_munge() -> None:
    if _said("munge", "-n"):
        return  # one is running already
    folder = STATE / "munge"
    folder.mkdir()
    for path in (Path("/run/munge"), folder):
        path.mkdir(exist_ok=True)
        shutil.chown(path, "munge", "munge")
    pid_file = STATE / "munged.pid"
    pid_file.touch()
    shutil.chown(pid_file, "munge", "munge")
    options = [f"--pid-file={pid_file}", f"--log-file={folder}/munged.log", f"--seed-file={folder}/seed"]
    subprocess.run(["runuser", "-u", "munge", "--", "munged", "--force", *options], check=True)
    _wait(lambda: bool(_said("munge", "-n")), "munge to answer")


def _said(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, encoding="utf-8"
    )
    return done.stdout.strip()


def _wait(ready, what: str, seconds: float = 40, needed: bool = True) -> None:
    stop_at = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > stop_at:
            if needed:
                raise SystemExit(f"waited {seconds:g} s in vain for {what}")
            return
        time.sleep(0.2)


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]]()
