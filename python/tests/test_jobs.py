"""The package against a stand-in for the `fleet` command."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import loadline  # noqa: E402

ROW = {
    "job": 412,
    "job_id": "0192f0c1-2345-7abc-8def-0123456789ab",
    "name": "train",
    "user": "ada",
    "tier": "standard",
    "state": "running",
    "workers_running": 1,
    "workers_max": 2,
    "exit_code": None,
    "waiting_for": None,
}


def job(state: str = "running", **more: Any) -> dict[str, Any]:
    return {**ROW, "state": state, "attempts": [], "receipts": [], **more}


OUT_OF_MEMORY = {
    "attempt_id": "a",
    "worker": 0,
    "attempt": 1,
    "node": "n1",
    "node_silent": False,
    "state": "ended",
    "cpus": "0-1",
    "unit": "u",
    "something_new": 1,
    "ended": {
        "reason": "out_of_memory",
        "exit_code": None,
        "signal": None,
        "at": "2026-01-01T00:00:00Z",
        "detail": "killed at its limit of 4GiB",
        "peak_memory_bytes": 4 << 30,
        "cpu_time_us": 1,
    },
}


class Jobs(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.script = Path(folder.name) / "script.json"
        environment = {"LOADLINE_FLEET": str(HERE / "fake_fleet.py"), "FAKE_FLEET": str(self.script)}
        patch = mock.patch.dict(os.environ, environment)
        patch.start()
        self.addCleanup(patch.stop)

    def answers(self, *answers: dict[str, Any]) -> None:
        self.script.write_text(json.dumps({"calls": [], "answers": list(answers)}), encoding="utf-8")

    def calls(self) -> list[list[str]]:
        calls = json.loads(self.script.read_text(encoding="utf-8"))["calls"]
        for call in calls:
            self.assertEqual(call[:2], ["-o", "json"])
        return [call[2:] for call in calls]

    def test_run_says_what_it_was_given_and_nothing_else(self) -> None:
        self.answers({"out": {"job": 412, "job_id": ROW["job_id"]}}, {"out": {"job": 413, "job_id": "x"}})
        given = loadline.run(
            ["python", "train.py", "--cpus"],
            cpus="500m",
            workers=(1, 8),
            time="2h",
            env={"EPOCHS": "3"},
            nodes=["n1"],
            on_node_lost="replace",
        )
        self.assertEqual(given, loadline.Job(412))
        self.assertEqual(loadline.run(["true"]).number, 413)
        options = ["--cpus=500m", "--workers=1-8", "--time=2h", "--on-node-lost=replace", "--env=EPOCHS=3", "--node=n1"]
        command = ["--", "python", "train.py", "--cpus"]
        self.assertEqual(
            self.calls(), [["run", "--detach", *options, *command], ["run", "--detach", "--", "true"]]
        )

    def test_run_refuses_a_shell_line(self) -> None:
        with self.assertRaises(TypeError):
            loadline.run("python train.py")

    def test_run_file(self) -> None:
        self.answers({"out": {"job": 412, "job_id": "x"}})
        self.assertEqual(loadline.run_file(Path("job.toml")).number, 412)
        self.assertEqual(self.calls(), [["run", "--detach", "job.toml"]])

    def test_status_reads_what_it_knows_and_keeps_the_rest(self) -> None:
        self.answers({"out": job(attempts=[OUT_OF_MEMORY], new_field=1)})
        status = loadline.Job(412).status()
        self.assertEqual((status.state, status.done, status.workers_max), ("running", False, 2))
        self.assertEqual(status.attempts[0].node, "n1")
        self.assertEqual(status.raw["new_field"], 1)

    def test_wait_returns_a_success(self) -> None:
        self.answers({"out": job("succeeded", exit_code=0)}, {"out": job("succeeded", exit_code=0)})
        self.assertTrue(loadline.Job(412).wait().succeeded)
        self.assertEqual(self.calls(), [["wait", "412"], ["job", "412"]])

    def test_wait_raises_for_a_failure_with_its_cause(self) -> None:
        failed = job("failed", exit_code=137, attempts=[OUT_OF_MEMORY])
        self.answers(*[{"out": failed, "code": 137}, {"out": failed}] * 2)
        with self.assertRaises(loadline.JobFailed) as caught:
            loadline.Job(412).wait()
        self.assertEqual(caught.exception.exit_code, 137)
        self.assertEqual(
            caught.exception.sentence, "job 412 failed: out of memory: killed at its limit of 4GiB"
        )
        self.assertEqual(loadline.Job(412).wait(check=False).state, "failed")

    def test_wait_gives_up(self) -> None:
        told = {"reason": "NOT_DONE", "sentence": "job 412 is not done after 2s", "next_step": "", "exit_code": 1}
        self.answers({"err": told, "code": 1})
        with self.assertRaises(loadline.NotDone):
            loadline.Job(412).wait(timeout=2)
        self.assertEqual(self.calls(), [["wait", "412", "--timeout", "2000ms"]])

    def test_a_jobs_code_that_looks_like_one_of_ours_is_the_jobs(self) -> None:
        failed = job("failed", exit_code=5)
        self.answers({"out": failed, "code": 5}, {"out": failed})
        self.assertEqual(loadline.Job(412).wait(check=False).exit_code, 5)

    def test_failures_are_told_apart(self) -> None:
        for code, kind in [
            (1, loadline.LoadlineError),
            (2, loadline.UsageError),
            (3, loadline.NotFound),
            (4, loadline.Denied),
            (5, loadline.Unreachable),
        ]:
            told = {"reason": "R", "sentence": "it cannot be", "next_step": "do this", "request_id": "r-1"}
            self.answers({"err": told, "code": code})
            with self.assertRaises(loadline.LoadlineError) as caught:
                loadline.Job(412).status()
            error = caught.exception
            self.assertIs(type(error), kind)
            self.assertEqual(str(error), "it cannot be (next: do this)")
            self.assertEqual((error.reason, error.request_id), ("R", "r-1"))

    def test_logs_come_line_by_line(self) -> None:
        line = {"event": "log", "worker": 1, "attempt": 1, "at": "t", "stream": "stdout"}
        notice = {"event": "notice", "job": 412, "sentence": "n1 cannot be reached"}
        self.answers({"lines": [{**line, "text": "one"}, notice, {**line, "text": "two"}]})
        lines = list(loadline.Job(412).logs(worker=1, tail=5))
        self.assertEqual([(got.worker, got.text) for got in lines], [(1, "one"), (1, "two")])
        self.assertEqual(self.calls(), [["logs", "412", "--worker", "1", "--tail", "5"]])

    def test_who_stops_listening_ends_the_command(self) -> None:
        line = {"event": "log", "worker": 0, "attempt": 1, "at": "t", "stream": "stdout", "text": "one"}
        self.answers({"lines": [line], "hang": True})
        lines = loadline.Job(412).logs(follow=True)
        self.assertEqual(next(lines).text, "one")
        # Returns only once the command is gone.
        lines.close()

    def test_logs_that_fail_raise_at_the_end(self) -> None:
        line = {"event": "log", "worker": 0, "attempt": 1, "at": "t", "stream": "stdout", "text": "one"}
        told = {"reason": "R", "sentence": "there is no job 412", "next_step": ""}
        self.answers({"lines": [line], "err": told, "code": 3})
        lines = loadline.Job(412).logs()
        self.assertEqual(next(lines).text, "one")
        with self.assertRaises(loadline.NotFound):
            next(lines)

    def test_explain_and_cancel(self) -> None:
        reason = {"code": "cpus_busy", "sentence": "busy", "nodes": 2, "examples": ["n1", "n2"]}
        self.answers(
            {"out": {**ROW, "reasons": [reason], "change": "wait", "nodes_considered": 2}},
            {"out": ROW},
        )
        why = loadline.Job(412).explain()
        self.assertEqual((why.reasons[0].code, why.change), ("cpus_busy", "wait"))
        loadline.Job(412).cancel()
        self.assertEqual(self.calls(), [["explain", "412"], ["cancel", "412"]])

    def test_a_job_by_its_id_learns_its_number(self) -> None:
        self.answers({"out": job()})
        self.assertEqual(loadline.Job(ROW["job_id"]).number, 412)

    def test_without_the_command_one_is_told_what_to_install(self) -> None:
        with mock.patch.dict(os.environ, {"LOADLINE_FLEET": "/nonexistent/fleet"}):
            with self.assertRaises(loadline.CommandMissing) as caught:
                loadline.run(["true"])
        self.assertIn("loadline-cli", caught.exception.next_step)


if __name__ == "__main__":
    unittest.main()
