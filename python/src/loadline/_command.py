"""Calls of the ``fleet`` command: JSON in, exceptions out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from loadline._errors import BY_EXIT_CODE, CommandMissing, LoadlineError, NotDone


def _command(words: Sequence[str]) -> list[str]:
    # A job's own words follow `--`; options of the command stand before it.
    return [os.environ.get("LOADLINE_FLEET", "fleet"), "-o", "json", *words]


def _missing(error: OSError) -> CommandMissing:
    return CommandMissing(
        f"the fleet command cannot be started: {error.strerror or error}",
        "install the package loadline-cli, or name the program in LOADLINE_FLEET",
        "COMMAND_MISSING",
    )


def failure(code: int, stderr: str) -> LoadlineError:
    """The exception for what the command printed when it failed."""
    told: dict[str, Any] = {}
    for line in reversed(stderr.strip().splitlines()):
        try:
            told = json.loads(line)["error"]
        except (ValueError, KeyError, TypeError):
            continue
        break
    kind = NotDone if told.get("reason") == "NOT_DONE" else BY_EXIT_CODE.get(code, LoadlineError)
    return kind(
        told.get("sentence") or stderr.strip() or f"the fleet command ended with code {code} and said nothing",
        told.get("next_step", ""),
        told.get("reason", ""),
        told.get("request_id", ""),
    )


def call(*words: str) -> Any:
    """Runs the command and returns its document. A job's own exit code is no failure of the command."""
    try:
        done = subprocess.run(_command(words), capture_output=True, text=True, check=False)
    except OSError as error:
        raise _missing(error) from error
    if done.stdout.strip():
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise LoadlineError(f"the fleet command said something else than JSON: {done.stdout[:200]!r}") from None
    if done.returncode == 0:
        return None
    raise failure(done.returncode, done.stderr)


def stream(*words: str) -> Iterator[dict[str, Any]]:
    """Runs the command and yields its events as they come. Ends the command when the caller stops listening."""
    try:
        process = subprocess.Popen(_command(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise _missing(error) from error
    assert process.stdout is not None and process.stderr is not None
    try:
        for line in process.stdout:
            yield json.loads(line)
        # Only what little the command says about a failure; it cannot fill the pipe before this.
        stderr = process.stderr.read()
        if process.wait() != 0:
            raise failure(process.returncode, stderr)
    finally:
        if process.poll() is None:
            process.terminate()
        process.stdout.close()
        process.stderr.close()
        process.wait()
