"""The Python client against the real API: everything once, and what it does when the way to the service breaks."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from purlkit.client import (
    AsyncPurlClient,
    DownloadDamaged,
    IllegalMove,
    InvalidRequest,
    Job,
    JobDidNotSucceed,
    NotFound,
    NotYet,
    PurlClient,
    Unreachable,
)
from purlkit.errors import InvalidSpec
from purlkit.results import ErrorReport, Finish, Outcome, WorkerEvent
from purlkit.spec import JobSpec
from services.testing import an_episode
from tests.breaking import breaking
from tests.integration.over_http import LEAST, Service
from tests.waiting import wait_until

CHECKPOINT = bytes(range(256)) * 4096  # a megabyte


@pytest.fixture
def purl(service: Service) -> Iterator[PurlClient]:
    with PurlClient(service.url, patience=5) as client:
        yield client


def pruned(service: Service, purl: PurlClient) -> Job:
    """A job that has succeeded with a checkpoint of a megabyte."""
    job = purl.submit(LEAST)
    worker = service.claim()
    assert worker.say(an_episode(0), an_episode(1, accuracy=0.75)).is_success
    assert worker.succeed(CHECKPOINT).status_code == 200
    return job


def test_submit_watch_wait_and_download(service: Service, purl: PurlClient, tmp_path: Path) -> None:
    job = pruned(service, purl)

    types = [event.type for event in job.events()]
    ended = job.wait(timeout=60)
    paths = job.download(tmp_path)

    assert types.count("episode") == 2
    assert ended.result is not None
    assert ended.result.winner.method == "global"
    assert [path.name for path in paths] == ["pruned.safetensors"]
    assert paths[0].read_bytes() == CHECKPOINT
    assert [episode.accuracies[-1] for episode in job.episodes()] == [0.5, 0.75]


def test_a_spec_says_only_what_the_client_set(service: Service, purl: PurlClient) -> None:
    as_record = purl.submit(JobSpec.model_validate({**LEAST, "seed": 7}))
    as_mapping = purl.submit({**LEAST, "seed": 7})

    assert as_record.record.fingerprint == as_mapping.record.fingerprint
    assert service.job(as_record.id)["spec"]["seed"] == 7


def test_one_key_makes_one_job(purl: PurlClient) -> None:
    assert purl.submit(LEAST, key="mine").id == purl.submit(LEAST, key="mine").id
    assert purl.submit(LEAST).id != purl.submit(LEAST).id


def test_jobs_come_page_after_page(purl: PurlClient) -> None:
    made = [purl.submit({**LEAST, "name": str(number)}).id for number in range(120)]

    assert [job.id for job in purl.jobs(state="queued")] == made[::-1]
    assert list(purl.jobs(state="running")) == []


def test_moves(purl: PurlClient) -> None:
    job = purl.submit(LEAST)

    assert job.pause().state == "paused"
    assert job.resume().state == "queued"
    assert job.cancel().state == "cancelled"
    with pytest.raises(IllegalMove):
        job.pause()
    with pytest.raises(JobDidNotSucceed, match="cancelled"):
        job.wait()


def test_refusals_are_exceptions_that_name_the_field(purl: PurlClient) -> None:
    with pytest.raises(InvalidRequest, match="/targets/sparsity") as refused:
        purl.submit({"model": {"name": "digits-resnet"}, "targets": {"sparsity": 2}})
    assert (refused.value.status, refused.value.blames[0].pointer) == (422, "/targets/sparsity")
    assert str(refused.value).count(refused.value.blames[0].detail) == 1
    assert refused.value.blames[0].detail != ""
    with pytest.raises(InvalidRequest, match=r"^/model/name: there is no such model") as refused:
        purl.submit({"model": {"name": "resnet-digits"}, "targets": {"sparsity": 0.9}})
    assert str(refused.value).count(refused.value.blames[0].detail) == 1

    with pytest.raises(NotFound):
        purl.job("job_00000000000000000000000000")


def test_a_failed_job_says_why(service: Service, purl: PurlClient) -> None:
    job = purl.submit(LEAST)
    error = ErrorReport(code="missing_data", message="put the files under digits/")
    service.claim().finish(Finish(outcome=Outcome.FAILED, error=error))

    with pytest.raises(JobDidNotSucceed, match="put the files under digits/"):
        job.wait(timeout=60)


def test_waiting_has_a_limit_of_the_callers(purl: PurlClient) -> None:
    job = purl.submit(LEAST)

    with pytest.raises(NotYet, match="queued"):
        job.wait(timeout=0.05, poll=0.02)


def test_weights_go_up_under_their_hash(purl: PurlClient, tmp_path: Path) -> None:
    file = tmp_path / "dense.safetensors"
    save_file({"weight": torch.zeros(3, 4)}, file)
    seen: list[tuple[int, int]] = []

    uploaded = purl.upload(file, on_bytes=lambda done, of: seen.append((done, of)))

    assert uploaded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert uploaded.tensors == 1
    assert seen[-1] == (file.stat().st_size, file.stat().st_size)


def test_a_download_goes_on_where_it_broke(service: Service, purl: PurlClient, tmp_path: Path) -> None:
    job_id = pruned(service, purl).id
    taken: list[int] = []

    with breaking(service.url) as way, PurlClient(way.address, patience=5) as client:
        job = client.job(job_id)
        artifact = job.artifacts()[0]
        # Each connection that the client opens from here on: the first three break in the file.
        client.close()
        with PurlClient(way.address, patience=5) as fresh:
            way.after += [300_000, 300_000, 300_000]
            path = fresh.fetch(artifact, tmp_path, on_bytes=lambda done, _: taken.append(done))

    assert path.read_bytes() == CHECKPOINT
    assert taken == sorted(taken), "no byte was fetched twice"
    assert [path.name for path in tmp_path.iterdir()] == ["pruned.safetensors"]


def test_a_damaged_download_leaves_nothing(service: Service, purl: PurlClient, tmp_path: Path) -> None:
    artifact = pruned(service, purl).artifacts()[0]
    wrong = artifact.model_copy(update={"sha256": "0" * 64})

    with pytest.raises(DownloadDamaged):
        purl.fetch(wrong, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_here_already_is_not_fetched_again(service: Service, purl: PurlClient, tmp_path: Path) -> None:
    job = pruned(service, purl)
    job.download(tmp_path)
    seen: list[int] = []

    job.download(tmp_path, "pruned.safetensors", on_bytes=lambda done, _: seen.append(done))

    assert seen == []
    with pytest.raises(InvalidSpec, match=r"no file nothing\.bin"):
        job.download(tmp_path, "nothing.bin")


def test_events_come_once_each_over_a_stream_that_breaks(service: Service, purl: PurlClient) -> None:
    job = purl.submit(LEAST)
    worker = service.claim()
    for number in range(40):
        assert worker.say(WorkerEvent(type="note", data={"number": number})).is_success
    assert worker.succeed().status_code == 200

    # Breaks in the middle of lines and of events.
    with breaking(service.url, 700, 911, 1303, 1777) as way, PurlClient(way.address, patience=5) as client:
        events = list(client.follow(job.id))

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.data["number"] for event in events if event.type == "note"] == list(range(40))


def test_a_service_that_is_not_there_is_said_to_be_so_at_first_and_when_patience_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # At the first try: on a busy machine the second may come when patience has ended.
    monkeypatch.setattr("purlkit.client.calls.SILENT_SECONDS", -1.0)
    address = "http://127.0.0.1:1"
    with PurlClient(address, patience=1) as client, pytest.raises(Unreachable, match=f"{address}.*is it running"):
        client.job("job_00000000000000000000000000")

    [told] = caplog.messages
    assert address in told


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidSpec, match="PURL_URL"):
        PurlClient("localhost:8000")


def test_in_a_notebook_a_job_shows_itself(service: Service, purl: PurlClient) -> None:
    job = purl.submit({**LEAST, "name": "<script>"})
    assert "queued" in job._repr_html_()
    worker = service.claim()
    worker.say(an_episode(0), an_episode(1))
    worker.succeed()
    list(job.events())

    html = job.refresh()._repr_html_()
    list(job.events())

    assert "global magnitude ships" in html
    assert "Accuracy and sparsity after each of 2 episodes" in html
    assert "Test accuracy of every candidate over its sparsity" in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert job._repr_html_() == html, "events that are heard again change nothing"


def test_the_same_from_asyncio(service: Service, tmp_path: Path) -> None:
    async def whole() -> tuple[list[str], list[Path], list[float], list[str]]:
        async with AsyncPurlClient(service.url, patience=5) as purl:
            job = await purl.submit(LEAST)
            working = asyncio.get_running_loop().run_in_executor(None, work)
            types = [event.type async for event in job.events()]
            await working
            await job.wait(timeout=60)
            assert "Test accuracy of every candidate over its sparsity" in job._repr_html_()
            paths = await job.download(tmp_path)
            accuracies = [episode.accuracies[-1] async for episode in job.episodes()]
            return types, paths, accuracies, [one.id async for one in purl.jobs()]

    def work() -> None:
        worker = service.claim()
        worker.say(an_episode(0))
        worker.succeed(CHECKPOINT)

    types, paths, accuracies, ids = asyncio.run(whole())

    assert "episode" in types
    assert paths[0].read_bytes() == CHECKPOINT
    assert accuracies == [0.5]
    assert len(ids) == 1


def test_a_stream_is_live(service: Service, purl: PurlClient) -> None:
    job = purl.submit(LEAST)
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(event.type for event in job.events()))
    reader.start()
    worker = service.claim()
    worker.say(WorkerEvent(type="note", data={"n": 1}))
    wait_until("the job is followed", lambda: reader.is_alive())
    worker.succeed()

    reader.join(timeout=60)

    assert not reader.is_alive()
    assert "note" in seen
