"""Array jobs of SLURM, through submitit: one element for each row.

A preempted or timed-out row writes a checkpoint and is queued again. States come from `squeue`; what became of a row is read from
the comparison's folder, never from submitit's pickles. Its job pickle is the one exception: the node that runs a row reads it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field

from ld3m_plugin.errors import HostError, UsageError, one_line
from ld3m_plugin.launchers.launcher import Job, JobState, Launcher
from ld3m_plugin.options import Options
from ld3m_plugin.storage import read_json, write_json

_SUBMITTED = "submitted.json"
_INVALID = "Invalid job id"
#: States of squeue in which an element has yet to run, or runs (also while it is being ended).
_WAITING = {
    "PENDING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "SUSPENDED",
    "CONFIGURING",
    "RESV_DEL_HOLD",
}
_RUNNING = {"RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "STOPPED", "RESIZING", "PREEMPTED"}


class SlurmOptions(Options):
    """Options of the launcher `slurm`; those without a default here are the cluster's."""

    jobs: int = Field(16, ge=1, description="elements of the array that run at a time")
    partition: str | None = Field(None, description="partition")
    account: str | None = Field(None, description="account")
    qos: str | None = Field(None, description="quality of service")
    minutes: int = Field(240, ge=1, description="time limit; a row that reaches it goes on in a new turn")
    turns: int = Field(20, ge=0, description="how often a row may reach the time limit")
    memory: float | None = Field(None, gt=0, description="GB")
    gpus: int | None = Field(None, ge=0, description="GPUs of a row")
    warning: int = Field(90, ge=1, description="seconds before the time limit at which a row begins its checkpoint")
    more: dict[str, Any] = Field(default_factory=dict, description="other options of sbatch, by name")
    poll: float = Field(5.0, gt=0, description="seconds between two calls of squeue")


class RowInJob:
    """The function of an array element: run a row's command, and write its checkpoint when SLURM wants the node back.

    Only plain data is in it: submitit pickles it.
    """

    def __init__(self, job: Job, patience: float) -> None:
        self.command, self.environment, self.log = job.command, dict(job.environment), str(job.log)
        self.patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        with Path(self.log).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (a command of this program)
                self.command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **self.environment}
            )
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Called by submitit when a time limit or a preemption is near: end the row in order and ask for another turn."""
        from submitit.helpers import DelayedSubmission

        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.patience)
        return DelayedSubmission(self)


class SlurmLauncher(Launcher):
    """Submits the rows as one array job; rows of an earlier call that still wait or run are waited for, not submitted again."""

    Options = SlurmOptions

    def __init__(self, options: SlurmOptions | None = None, **keywords: object) -> None:
        super().__init__(options, **keywords)
        self._elements: dict[str, str] = {}  # row -> JOB_INDEX
        self._states: dict[str, JobState] = {}
        self._asked = 0.0

    def start(self, jobs: Sequence[Job], folder: Path) -> None:
        """Submit.

        Raises:
            HostError: submitit or SLURM is not there, or sbatch refuses.
        """
        record = folder / _SUBMITTED
        earlier = dict(read_json(record, HostError)) if record.is_file() else {}
        alive = _squeue({element.partition("_")[0] for element in earlier.values()})
        self._elements = {job.id: earlier[job.id] for job in jobs if earlier.get(job.id) in alive}
        new = [job for job in jobs if job.id not in self._elements]
        if new:
            self._elements |= self._submit(new, folder)
            write_json(record, earlier | self._elements)
        self._states = dict.fromkeys(self._elements, "waiting")

    def _submit(self, jobs: Sequence[Job], folder: Path) -> dict[str, str]:
        try:
            import submitit
        except ImportError as error:
            raise UsageError("the launcher slurm needs submitit: pip install 'ld3m-plugin[slurm]'") from error
        if shutil.which("sbatch") is None:
            raise UsageError("there is no SLURM here (no sbatch in PATH): use --launcher local")
        options = self.options
        executor = submitit.SlurmExecutor(folder, max_num_timeout=options.turns)
        wanted = {
            "partition": options.partition,
            "account": options.account,
            "qos": options.qos,
            "mem": None if options.memory is None else f"{round(options.memory * 1024)}M",
            "gpus_per_node": options.gpus,
            "additional_parameters": {"requeue": True, **options.more},
        }
        executor.update_parameters(
            job_name="ld3m",
            time=options.minutes,
            cpus_per_task=max(job.threads for job in jobs),
            ntasks_per_node=1,
            array_parallelism=options.jobs,
            signal_delay_s=options.warning,
            **{name: value for name, value in wanted.items() if value is not None},
        )
        try:
            with executor.batch():
                made = [executor.submit(RowInJob(job, options.warning * 0.9)) for job in jobs]
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError, OSError) as error:
            raise HostError(f"sbatch refused the rows: {one_line(str(error))}") from error
        return {job.id: submitted.job_id for job, submitted in zip(jobs, made, strict=True)}

    def poll(self) -> Mapping[str, JobState]:
        now = time.monotonic()
        if now - self._asked >= self.options.poll:
            self._asked = now
            self._ask()
        return dict(self._states)

    def _ask(self) -> None:
        try:
            found = _squeue({element.partition("_")[0] for element in self._elements.values()})
        except HostError:
            return  # the controller is away for a while: nothing is known to have changed
        for row, element in self._elements.items():
            state = found.get(element)
            self._states[row] = "ended" if state is None else "waiting" if state in _WAITING else "running"

    def stop(self) -> None:
        """Cancel what still waits or runs: SLURM sends SIGTERM first, and a row writes its checkpoint."""
        left = [e for row, e in self._elements.items() if self._states.get(row) != "ended"]
        if not left:
            return
        _command("scancel", *left)
        until = time.monotonic() + 120
        while time.monotonic() < until and any(state != "ended" for state in self._states.values()):
            time.sleep(min(1.0, self.options.poll))
            self._ask()


def _squeue(jobs: set[str]) -> dict[str, str]:
    """The state of each element of array jobs that SLURM still knows and that has not ended.

    Raises:
        HostError: SLURM does not answer.
    """
    found: dict[str, str] = {}
    for job in sorted(jobs):  # one by one: an unknown job, which ended long ago, would hide the others
        try:
            lines = _command("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--jobs={job}")
        except HostError as error:
            if _INVALID in str(error):
                continue
            raise
        found |= dict(line.strip().split("|", 1) for line in lines.splitlines() if "|" in line)
    return {element: state for element, state in found.items() if state in _WAITING | _RUNNING}


def _command(*words: str) -> str:
    """Run a command of SLURM and return what it prints; raises `HostError` with its own words."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{words[0]} does not work: {one_line(str(error))}") from error
    if done.returncode:
        raise HostError(f"{words[0]} failed: {one_line(done.stderr)}")
    return done.stdout
