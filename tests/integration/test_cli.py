"""`purl` against the real API: what a user types, and what comes back."""

from __future__ import annotations

import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from purlkit.cli import app
from purlkit.cli.output import Exit
from purlkit.results import (
    CheckReport,
    ErrorReport,
    Finish,
    Heartbeat,
    Layer,
    Outcome,
    Phase,
    PhaseCost,
    Progress,
    WorkerEvent,
)
from services.testing import an_episode
from tests.integration.over_http import Service, a_success, reports

Purl = Callable[..., Result]


@pytest.fixture
def purl(service: Service, monkeypatch: pytest.MonkeyPatch) -> Purl:
    monkeypatch.setenv("PURL_URL", service.url)
    return lambda *arguments: CliRunner().invoke(app.purl(), list(arguments))


def test_submit_prints_the_id_and_show_tells_of_it(service: Service, purl: Purl) -> None:
    submitted = purl("submit", "--model", "digits-resnet", "-s", "0.9", "--name", "mine", "--runners", "3")
    assert submitted.exit_code == Exit.DONE, submitted.output
    job_id = submitted.output.strip()

    shown = purl("show", job_id)

    assert service.job(job_id)["spec"]["resources"]["env_runners"] == 3
    assert "queued" in shown.output
    assert "mine" in shown.output
    assert json.loads(purl("show", job_id, "--json").output)["id"] == job_id


def test_list_and_moves(purl: Purl) -> None:
    job_id = purl("submit", "-m", "digits-resnet", "-s", "0.9").output.strip()

    assert purl("pause", job_id).output.split() == [job_id, "paused"]
    assert job_id in purl("list", "--state", "paused").output
    assert job_id not in purl("list", "--state", "queued").output
    assert purl("resume", job_id).output.split() == [job_id, "queued"]
    assert purl("cancel", job_id).output.split() == [job_id, "cancelled"]
    refused = purl("resume", job_id)
    assert refused.exit_code == Exit.REFUSED


def test_without_a_target_the_flag_is_named_and_nothing_is_asked(purl: Purl, service: Service) -> None:
    for command in ("submit", "check"):
        refused = purl(command, "-m", "digits-resnet")

        assert refused.exit_code == Exit.REFUSED
        assert "--sparsity 0.9" in refused.output
    assert service.http.get("/jobs").json()["data"] == []


def test_a_job_from_submit_to_the_file(service: Service, purl: Purl, tmp_path: Path) -> None:
    job_id = purl("submit", "-m", "digits-resnet", "-s", "0.9").output.strip()
    worker = service.claim()
    worker.say(*(an_episode(number) for number in range(10)))
    worker.succeed(b"the network")

    watched = purl("watch", job_id)
    downloaded = purl("download", job_id, "--to", str(tmp_path))

    assert watched.exit_code == Exit.DONE, watched.output
    assert "episode 10: accuracy 50.0%, sparsity 40.0%" in watched.output
    assert "global magnitude ships" in watched.output
    assert downloaded.exit_code == Exit.DONE, downloaded.output
    assert (tmp_path / "pruned.safetensors").read_bytes() == b"the network"


def test_the_time_left_and_the_standings_of_the_race_are_told(service: Service, purl: Purl) -> None:
    job_id = purl("submit", "-m", "digits-resnet", "-s", "0.9").output.strip()
    worker = service.claim()
    progress = Progress(fraction=0.4, phase=Phase.SEARCH, episode=17, episodes=55, eta_seconds=75.0)
    beat = Heartbeat(phase=Phase.SEARCH, counter=1, progress=progress)
    worker.call("POST", "/heartbeat", json=beat.model_dump(mode="json")).raise_for_status()

    assert "about 1 min 15 s of the search" in purl("show", job_id).output

    field = [{"method": "lamp", "variant": None, "select_accuracy": 0.9, "goes_on": True}]
    rung = {"target": 0.9, "epochs": 3, "of_epochs": 10, "seeds": 1, "candidates": field}
    worker.say(WorkerEvent(type="rung", data=rung))
    worker.succeed()

    assert "race at 90.0%: after 3 of 10 epochs\n   90.0% lamp\n" in purl("watch", job_id).output


def test_logs_follow_the_attempts_until_the_job_has_ended(service: Service, purl: Purl) -> None:
    job_id = purl("submit", "-m", "digits-resnet", "-s", "0.9").output.strip()
    assert "no attempt has begun" in purl("logs", job_id).output
    worker = service.claim()
    worker.call("POST", "/log", params={"start": 0}, content=b"the first line\n").raise_for_status()

    assert purl("logs", job_id).output == "the first line\n"
    service.drain(worker)
    worker = service.claim()
    worker.stage("attempt.log", "of the second, é\n".encode(), "text/plain; charset=utf-8")
    worker.succeed()

    assert purl("logs", job_id, "-f").output == "of the second, é\n"
    assert purl("logs", job_id, "-f", "--attempt", "1").output == "the first line\n"
    assert purl("logs", job_id, "--attempt", "9").output == ""
    assert json.loads(purl("logs", job_id, "--json").output) == {"attempt": 2, "text": "of the second, é\n"}


def test_the_report_is_fetched_whole(service: Service, purl: Purl, tmp_path: Path) -> None:
    job_id = purl("submit", "-m", "digits-resnet", "-s", "0.9").output.strip()
    worker = service.claim()
    worker.stage("report.html", b"<!doctype html>", "text/html; charset=utf-8")
    worker.stage("pruned.safetensors", b"the network")
    succeeded = a_success(b"the network")
    worker.finish(succeeded.model_copy(update={"artifacts": ("pruned.safetensors", "report.html")}))

    fetched = purl("report", job_id, "--to", str(tmp_path))

    assert fetched.exit_code == Exit.DONE, fetched.output
    assert (tmp_path / "report.html").read_bytes() == b"<!doctype html>"
    again = purl("report", job_id, "--to", str(tmp_path), "--json")
    assert json.loads(again.output) == [str(tmp_path / "report.html")]


def test_a_failed_job_is_exit_code_1(service: Service, purl: Purl) -> None:
    job_id = purl("submit", "-m", "digits-resnet", "-s", "0.9").output.strip()
    error = ErrorReport(code="missing_data", message="put the files under digits/")
    service.claim().finish(Finish(outcome=Outcome.FAILED, error=error))

    watched = purl("watch", job_id)

    assert watched.exit_code == Exit.JOB_FAILED
    assert "put the files under digits/" in watched.output


def test_watch_with_json_is_a_line_for_each_event(service: Service, purl: Purl) -> None:
    job_id = purl("submit", "-m", "digits-resnet", "-s", "0.9").output.strip()
    worker = service.claim()
    worker.say(an_episode(0))
    worker.succeed()

    lines = [json.loads(line) for line in purl("watch", job_id, "--json").output.splitlines()]

    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert "episode" in {line["type"] for line in lines}


def test_a_bad_spec_names_the_field(purl: Purl) -> None:
    refused = purl("submit", "-m", "digits-resnet", "-s", "2")

    assert refused.exit_code == Exit.REFUSED
    assert "/targets/sparsity" in refused.output


def test_check_tells_and_its_exit_code_says_whether_it_can_run(service: Service, purl: Purl) -> None:
    reason = ErrorReport(code="missing_data", message="put the files there", at="/dataset")
    service.launcher.checker = reports(
        CheckReport(
            runnable=False,
            reasons=(reason,),
            layers=(Layer(name="conv1", kind="Conv2d", shape=(16, 1, 3, 3), weights=144),),
            costs=(PhaseCost(phase="search", images=600_000, device_hours=0.12),),
            sparsity_range=(0.0, 0.999),
            steps=600,
            prunable_weights=77072,
        )
    )

    checked = purl("check", "-m", "digits-resnet", "-s", "0.95")

    assert checked.exit_code == Exit.REFUSED
    assert "0.0% to 99.900%" in checked.output
    assert "/dataset: put the files there" in checked.output
    assert ["conv1", "Conv2d", "16×1×3×3", "144"] in [line.split() for line in checked.output.splitlines()]
    assert ["search", "600,000", "0.12"] in [line.split() for line in checked.output.splitlines()]


def test_weights_are_pushed_and_used(purl: Purl, service: Service, tmp_path: Path) -> None:
    file = tmp_path / "dense.safetensors"
    save_file({"weight": torch.zeros(2)}, file)

    sha256 = purl("weights", "push", str(file)).output.strip()
    by_file = purl("submit", "-m", "digits-resnet", "-s", "0.9", "--weights", str(file)).output.strip()
    by_hash = purl("submit", "-m", "digits-resnet", "-s", "0.9", "--weights", sha256).output.strip()

    for job_id in (by_file, by_hash):
        assert service.job(job_id)["spec"]["model"]["weights"] == {"sha256": sha256}
    assert sha256 in purl("weights", "list").output
    assert [one["tensors"] for one in json.loads(purl("weights", "list", "--json").output)] == [1]
    neither = purl("submit", "-m", "digits-resnet", "-s", "0.9", "--weights", "nothing.safetensors")
    assert neither.exit_code == Exit.REFUSED
    assert "neither a file nor the sha256" in neither.output


def test_the_catalog(purl: Purl) -> None:
    assert "digits-resnet" in purl("models").output
    assert {entry["name"] for entry in json.loads(purl("datasets", "--json").output)} >= {"digits", "cifar10"}


def test_no_service_is_exit_code_4_and_usage_2() -> None:
    env = {**os.environ, "PURL_URL": "http://127.0.0.1:1", "PURL_PATIENCE": "0.1"}

    alone = subprocess.run(
        [sys.executable, "-m", "purlkit", "list"], env=env, capture_output=True, text=True, check=False
    )
    wrong = subprocess.run([sys.executable, "-m", "purlkit", "lits"], env=env, capture_output=True, check=False)

    assert (alone.returncode, wrong.returncode) == (Exit.UNREACHABLE, Exit.USAGE)
    assert "is it running" in alone.stderr


def test_help_comes_at_once_and_completion_knows_the_commands() -> None:
    """By the processor's time, which other work on the machine does not lengthen."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = subprocess.run([sys.executable, "-m", "purlkit", "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    asking = {**os.environ, "_PURL_COMPLETE": "complete_bash", "COMP_WORDS": "purl we", "COMP_CWORD": "1"}
    purl = Path(sys.executable).with_name("purl")
    completed = subprocess.run([purl], env=asking, capture_output=True, text=True, check=False)

    assert "Exit codes: 0 done" in said.stdout
    assert min(spent) < 0.3, f"{min(spent):.2f} s"
    assert completed.stdout.split() == ["weights"]


def test_a_wrong_address_is_not_tried_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURL_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("purlkit.cli.service.FIRST_SECONDS", 0.1)

    alone = CliRunner().invoke(app.purl(), ["list"])

    assert alone.exit_code == Exit.UNREACHABLE


def test_on_a_terminal_it_draws(service: Service, purl: Purl) -> None:
    job_id = purl("submit", "-m", "digits-resnet", "-s", "0.9").output.strip()
    worker = service.claim()
    worker.say(an_episode(0), an_episode(1))
    worker.succeed()
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}

    process = subprocess.Popen([sys.executable, "-m", "purlkit", "watch", job_id], env=env, stdout=theirs)
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 65_536):
            drawn += piece
    except OSError:  # a terminal whose other end has closed
        pass
    finally:
        os.close(ours)

    assert process.wait(timeout=60) == Exit.DONE
    assert "▅▅ 50.0%".encode() in drawn
    assert b"global magnitude ships" in drawn
    assert b"\x1b[3" not in drawn, "NO_COLOR was not heeded"
