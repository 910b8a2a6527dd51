"""What the cluster's tests stand on: hosts that reach each other, can be cut off and killed, and leave nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.hosts import NAMESPACES, NETNS, Host, Hosts, hosts, wait_for_line
from tests.cluster.topology import at_work
from tests.waiting import wait_until

PORT = 8000
STOP_SECONDS = 240  # a dozen calls of `ip`, on a machine that is busy with other tests
ROOT = Path(__file__).parent.parent.parent
SERVE = "import socket as s; x = s.create_server(('{address}', {port})); print(flush=True)\nwhile True: x.accept()"
# What a script has started in its background ignores Ctrl-C, and so do its children: these are to hear it.
MAKE = """
import os, signal, time
from tests.cluster.hosts import hosts
signal.signal(signal.SIGINT, signal.default_int_handler)
with hosts() as made:
    made.add("one").start("sleep", "600", log="log", environ=os.environ)
    print(made.folder, made.name, made.by_name["one"].pids()[0], flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["as can be had here", "processes"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    if request.param == "processes":
        monkeypatch.setenv("CLUSTER_HOSTS", "processes")
    with hosts() as made:
        yield made


def devices() -> set[str]:
    """Of this machine's own network."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def serving(host: Host) -> Host:
    host.start(sys.executable, "-c", SERVE.format(address=host.address, port=host.port(PORT)), log="log", environ={})
    wait_for_line(host, host.port(PORT))
    return host


def reaches(one: Host, other: Host) -> bool:
    try:
        with one.entered(), socket.create_connection((other.address, other.port(PORT)), timeout=1):
            return True
    except OSError:
        return False


def test_hosts_reach_each_other_and_are_not_to_be_seen_from_outside(
    made: Hosts, record_property: Callable[[str, object], None]
) -> None:
    record_property("told", f"hosts are {made.kind}")
    before = devices()
    one, other = made.add("one"), serving(made.add("other"))

    assert reaches(one, other)
    assert devices() == before


def test_a_host_that_is_cut_off_lives_on_and_comes_back(made: Hosts) -> None:
    one, other = made.add("one"), serving(made.add("other"))

    other.cut_off()
    # Who is only stopped still has connections taken for it: there it is enough that nothing is done with them.
    assert made.kind != NAMESPACES or not reaches(one, other)
    assert other.pids()
    other.reconnect()

    wait_until("it is reached again", lambda: reaches(one, other))


def test_a_host_that_is_killed_is_gone_with_all_that_runs_on_it_and_no_other_is(made: Hosts) -> None:
    one, other = serving(made.add("one")), serving(made.add("other"))
    one.start("sh", "-c", "setsid sleep 600 & exec sleep 600", log="log", environ=os.environ)
    wait_until("both run", lambda: len(one.pids("sleep 600")) == 2 and not one.pids("setsid"))

    one.kill()

    assert one.pids() == []
    assert reaches(one, other)
    assert not reaches(other, one)


def test_each_host_finds_its_own_disk_under_the_path_that_all_use(made: Hosts) -> None:
    one, other = made.add("one"), made.add("other")
    for host in (one, other):
        host.start("sh", "-c", f'echo {host.name} > "{host.disk}/name"', log="log", environ=os.environ)

    for host in (one, other):
        wait_until("it is written", partial(host.log, "name"))
        assert host.log("name").strip() == host.name
    assert (one.disk == other.disk) == (made.kind == NAMESPACES)


def test_whatever_works_for_an_attempt_is_found_by_any_name_and_nothing_of_rays_own(made: Hosts) -> None:
    """What the cluster's tests mean by "nothing is left" on a host."""
    host = made.add("one")

    def titled(*titles: str) -> None:
        for title in titles:
            host.start("bash", "-c", f"exec -a '{title}' sleep 600", log="log", environ=os.environ)
        wait_until("they run", lambda: all(host.pids(title, "600") for title in titles))

    titled("ray::IDLE", "ray::DashboardAgent", "ray::IDLE_SpillWorker")
    assert at_work(host) == []
    titled("ray::fine_tune", "ray::Worker.tune", "python -m workers.run")

    wait_until("all three are found", lambda: len(at_work(host)) == 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_ctrl_c(number: signal.Signals) -> None:
    command = [sys.executable, "-c", MAKE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as maker:
        assert maker.stdout is not None
        folder, name, pid = maker.stdout.readline().split()
        maker.send_signal(number)
        try:
            assert maker.wait(STOP_SECONDS) != 0
        finally:
            maker.kill()  # one that did not hear it would be waited for

    assert not Path(folder).exists()
    assert not Path(f"/proc/{pid}").exists()
    assert not [left for left in (NETNS.iterdir() if NETNS.exists() else []) if left.name.startswith(name)]
