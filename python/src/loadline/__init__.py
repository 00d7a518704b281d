"""Run jobs on a Loadline fleet.

Everything goes through the ``fleet`` command and the identity it keeps; this package adds types and exceptions.
"""

from loadline._errors import (
    CommandMissing,
    Denied,
    JobFailed,
    LoadlineError,
    NotDone,
    NotFound,
    Unreachable,
    UsageError,
)
from loadline._jobs import Attempt, End, Explanation, Job, LogLine, Reason, Status, run, run_file

__all__ = [
    "Attempt",
    "CommandMissing",
    "Denied",
    "End",
    "Explanation",
    "Job",
    "JobFailed",
    "LoadlineError",
    "LogLine",
    "NotDone",
    "NotFound",
    "Reason",
    "Status",
    "Unreachable",
    "UsageError",
    "run",
    "run_file",
]
