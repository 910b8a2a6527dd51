"""Two APIs behind a proxy are restarted one after the other while 20 requests a second come: no reader sees it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.chaos import house
from tests.chaos.calls import Client, file_of
from tests.chaos.history import History
from tests.chaos.house import House, wait_for_port
from tests.chaos.proxy import balanced
from tests.chaos.scale import tell, times
from tests.ports import free_ports

RESTARTS = times(100, short=3)  # of both
A_SECOND = 20
POST_EACH = 10
AT_ONCE = 16


@dataclass
class Traffic:
    """Each request leaves in its time, whatever became of those before it. Reads are asked once; a submission
    is asked again with its key, as its sender does who has no answer.
    """

    url: str
    client: Client
    job: str
    failed: list[str] = field(default_factory=list)
    reads: int = 0
    made: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        began, number = time.monotonic(), 0
        with (
            httpx.Client(base_url=self.url, timeout=30, trust_env=False, verify=False) as http,
            ThreadPoolExecutor(AT_ONCE) as pool,
        ):
            while not self.over.wait(max(0.0, began + number / A_SECOND - time.monotonic())):
                number += 1
                if number % POST_EACH == 0:
                    pool.submit(self._post, f"key {number}")
                else:
                    pool.submit(self._read, http)

    def _post(self, key: str) -> None:
        try:
            self.made.append(self.client.submit(key))
        except Exception as error:
            self.failed.append(repr(error))

    def _read(self, http: httpx.Client) -> None:
        self.reads += 1
        try:
            answer = http.get(f"/jobs/{self.job}")
            if answer.status_code != 200 or answer.json()["id"] != self.job:
                self.failed.append(answer.text)
        except Exception as error:  # no answer, or none that can be read
            self.failed.append(repr(error))


def test_a_rolling_restart_fails_no_read_and_doubles_no_job(postgresql_url: str, tmp_path: Path) -> None:
    ports = free_ports(2)
    kept = House(tmp_path / "log")
    with ExitStack() as stack:
        stack.enter_context(closing(kept))
        environ = {"PURL_DATA_DIR": str(tmp_path), "PURL_DATABASE_URL": postgresql_url}
        for port in ports:
            kept.start(str(port), house.api_of_its_own, {**environ, "PURL_PORT": str(port)})
        for port in ports:
            wait_for_port(f"http://127.0.0.1:{port}")
        url = stack.enter_context(balanced(*ports))
        client = stack.enter_context(closing(Client(url, History(file_of(tmp_path, "client")))))
        traffic = Traffic(url, client, client.submit("the one that is read"))
        thread = threading.Thread(target=traffic.run)
        thread.start()
        began = time.monotonic()
        try:
            for _ in range(RESTARTS):
                for port in ports:
                    assert kept.restart(str(port)) == 0
                    wait_for_port(f"http://127.0.0.1:{port}")
        finally:
            # Nothing is sent any more while a busy machine takes its time to answer what was.
            seconds = time.monotonic() - began
            traffic.over.set()
            thread.join()
        there = client.all_jobs()

    tell(
        f"{RESTARTS} rolling restarts of two in {seconds:.0f} s: {traffic.reads} reads, {len(traffic.failed)} failed; "
        f"{len(traffic.made)} submissions"
    )
    assert traffic.failed == []
    assert traffic.reads + len(traffic.made) >= A_SECOND * seconds / 2, "fewer came than were to come"
    assert sorted(there) == sorted([*traffic.made, traffic.job])
