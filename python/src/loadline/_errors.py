"""What can go wrong, told apart by what the caller can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadline._jobs import Status


class LoadlineError(Exception):
    """Something failed. ``sentence`` says what, ``next_step`` what to do, ``reason`` is stable."""

    def __init__(self, sentence: str, next_step: str = "", reason: str = "", request_id: str = "") -> None:
        super().__init__(f"{sentence} (next: {next_step})" if next_step else sentence)
        self.sentence = sentence
        self.next_step = next_step
        self.reason = reason
        self.request_id = request_id


class UsageError(LoadlineError):
    """What was asked is wrong: a unit, a name, a number."""


class NotFound(LoadlineError):
    """What was named does not exist."""


class Denied(LoadlineError):
    """Not allowed, or not logged in."""


class Unreachable(LoadlineError):
    """The fleet cannot be reached."""


class NotDone(LoadlineError):
    """The job has not ended within the time given."""


class CommandMissing(LoadlineError):
    """The ``fleet`` command is not installed here."""


class JobFailed(LoadlineError):
    """The job ended without success. ``status`` has all that is known."""

    def __init__(self, status: Status) -> None:
        why = next((a.ended.words for a in reversed(status.attempts) if a.ended and a.ended.failed), "")
        sentence = f"job {status.number} {status.state}" + (f": {why}" if why else "")
        super().__init__(sentence, f"`fleet job {status.number}` says more", "JOB_FAILED")
        self.status = status
        self.exit_code = status.exit_code


#: The exit codes of the ``fleet`` command.
BY_EXIT_CODE: dict[int, type[LoadlineError]] = {2: UsageError, 3: NotFound, 4: Denied, 5: Unreachable}
