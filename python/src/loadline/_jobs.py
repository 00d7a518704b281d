"""Jobs: submitting them, and what is known of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from loadline._command import call, stream
from loadline._errors import JobFailed

#: What may be given for ``workers``: a number, or (min, max) for an elastic job.
Workers = Union[int, tuple[int, int]]


@dataclass(frozen=True)
class End:
    """How an attempt ended."""

    reason: str
    exit_code: Optional[int]
    signal: Optional[int]
    at: str
    detail: str
    peak_memory_bytes: Optional[int]
    cpu_time_us: Optional[int]

    @property
    def failed(self) -> bool:
        """True unless the command exited with code 0."""
        return not (self.reason == "exited" and self.exit_code == 0)

    @property
    def words(self) -> str:
        """In words, like ``out of memory: killed at its limit of 4GiB``."""
        what = self.reason.replace("_", " ")
        if self.exit_code is not None:
            what += f" with code {self.exit_code}"
        if self.signal is not None:
            what += f" by signal {self.signal}"
        return f"{what}: {self.detail}" if self.detail else what


@dataclass(frozen=True)
class Attempt:
    """One try of one worker."""

    attempt_id: str
    worker: int
    attempt: int
    node: str
    node_silent: bool
    state: str
    cpus: Optional[str]
    unit: Optional[str]
    ended: Optional[End]


@dataclass(frozen=True)
class Status:
    """Where a job stands. ``raw`` is the whole document of ``fleet job -o json``."""

    number: int
    job_id: str
    name: str
    state: str
    workers_running: int
    workers_max: int
    exit_code: Optional[int]
    waiting_for: Optional[str]
    attempts: list[Attempt]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def done(self) -> bool:
        """True once no worker runs and none will."""
        return self.state in ("succeeded", "failed", "cancelled")

    @property
    def succeeded(self) -> bool:
        """True if every worker did."""
        return self.state == "succeeded"


@dataclass(frozen=True)
class LogLine:
    """A line of a worker's log.

    ``stream`` is ``stdout`` or ``stderr`` for what the worker wrote, ``loadline`` for what was done to it.
    """

    worker: int
    attempt: int
    at: str
    stream: str
    text: str


@dataclass(frozen=True)
class Reason:
    """One reason why a job waits."""

    code: str
    sentence: str
    nodes: int
    examples: list[str]


@dataclass(frozen=True)
class Explanation:
    """Why a job waits, and what would start it (``None``: nothing is needed)."""

    reasons: list[Reason]
    change: Optional[str]
    nodes_considered: int


def _known(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    # Newer commands may say more than this version knows.
    return {name: document.get(name) for name in kind.__dataclass_fields__}


def _attempt(document: Mapping[str, Any]) -> Attempt:
    known = _known(Attempt, document)
    ended = document.get("ended")
    known["ended"] = End(**_known(End, ended)) if ended else None
    return Attempt(**known)


def _status(document: Mapping[str, Any]) -> Status:
    return Status(
        number=document["job"],
        job_id=document["job_id"],
        name=document["name"],
        state=document["state"],
        workers_running=document["workers_running"],
        workers_max=document["workers_max"],
        exit_code=document.get("exit_code"),
        waiting_for=document.get("waiting_for"),
        attempts=[_attempt(attempt) for attempt in document.get("attempts", [])],
        raw=document,
    )


class Job:
    """A job that the fleet has."""

    def __init__(self, job: Union[int, str]) -> None:
        self._name = str(job)

    @property
    def number(self) -> int:
        """The short number that people use."""
        if not self._name.isdigit():
            self._name = str(self.status().number)
        return int(self._name)

    def status(self) -> Status:
        """Where it stands."""
        return _status(call("job", self._name))

    def wait(self, timeout: Optional[float] = None, check: bool = True) -> Status:
        """Waits for its end. Raises `NotDone` after `timeout` seconds, and, with `check`, `JobFailed` unless it
        succeeded."""
        words = ["wait", self._name]
        if timeout is not None:
            words += ["--timeout", f"{max(1, round(timeout * 1000))}ms"]
        call(*words)
        status = self.status()
        if check and not status.succeeded:
            raise JobFailed(status)
        return status

    def logs(
        self, follow: bool = False, worker: Optional[int] = None, tail: Optional[int] = None
    ) -> Iterator[LogLine]:
        """Yields what its workers wrote; with `follow` until it ends."""
        words = ["logs", self._name]
        if follow:
            words.append("--follow")
        if worker is not None:
            words += ["--worker", str(worker)]
        if tail is not None:
            words += ["--tail", str(tail)]
        for event in stream(*words):
            if event.get("event") == "log":
                yield LogLine(**_known(LogLine, event))

    def explain(self) -> Explanation:
        """Why it waits."""
        document = call("explain", self._name)
        reasons = [Reason(**_known(Reason, reason)) for reason in document["reasons"]]
        return Explanation(reasons, document.get("change"), document["nodes_considered"])

    def cancel(self) -> None:
        """Ends it and its workers; `wait` waits for that."""
        call("cancel", self._name)

    def __repr__(self) -> str:
        return f"Job({self._name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)


def run(
    command: Sequence[str],
    *,
    cpus: Union[int, str, None] = None,
    memory: Optional[str] = None,
    gpus: Optional[int] = None,
    workers: Optional[Workers] = None,
    tier: Optional[str] = None,
    time: Optional[str] = None,
    grace: Optional[str] = None,
    retries: Optional[int] = None,
    name: Optional[str] = None,
    dir: Optional[str] = None,
    env: Optional[Mapping[str, str]] = None,
    nodes: Sequence[str] = (),
    on_node_lost: Optional[str] = None,
) -> Job:
    """Submits a command, given as a list of words, and returns at once.

    ``cpus=2`` are whole CPUs of the worker's own, ``cpus="500m"`` a share; ``memory`` and ``time`` carry their
    units: ``"4GiB"``, ``"2h"``. What is not given takes the defaults of ``fleet run``.
    """
    if isinstance(command, str):
        raise TypeError("command is a list of words, like ['python', 'train.py']: there is no shell in between")
    if isinstance(workers, tuple):
        workers = f"{workers[0]}-{workers[1]}"  # type: ignore[assignment]
    options = {
        "cpus": cpus,
        "memory": memory,
        "gpus": gpus,
        "workers": workers,
        "tier": tier,
        "time": time,
        "grace": grace,
        "retries": retries,
        "name": name,
        "dir": dir,
        "on-node-lost": on_node_lost,
    }
    words = [f"--{option}={value}" for option, value in options.items() if value is not None]
    words += [f"--env={key}={value}" for key, value in (env or {}).items()]
    words += [f"--node={node}" for node in nodes]
    return Job(call("run", "--detach", *words, "--", *command)["job"])


def run_file(path: Union[str, os.PathLike[str]]) -> Job:
    """Submits what a job.toml says and returns at once."""
    return Job(call("run", "--detach", os.fspath(path))["job"])
