"""Attempts and checks as jobs of a Ray cluster, over its Jobs API: HTTP, and nothing of Ray in this process.

What Ray says of a job may end a lease sooner and never makes a success: that is the worker's own word alone.
"""

from __future__ import annotations

import io
import logging
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import httpx

from purlkit import code
from purlkit.growth import Group
from purlkit.results import UNREACHABLE_EXIT
from services.errors import BadSetting, LaunchFailed
from services.launch.protocol import Capacity, Handle, Node

log = logging.getLogger(__name__)

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})

# A job's start on a busy head was seen to take seconds; nobody waits for an answer longer than this.
TIMEOUT = httpx.Timeout(20.0, connect=5.0)
# A head that is busy is asked for its nodes again at the next pass: nobody waits for that answer.
NODES_TIMEOUT = httpx.Timeout(5.0)
# The head asks the driver's node for its log, and that may be cut off: then its job must not wait for the log.
LOG_TIMEOUT = httpx.Timeout(5.0)
NODES = "/api/v0/nodes"
LIVING = {"filter_keys": "state", "filter_predicates": "=", "filter_values": "ALIVE", "limit": "10000"}
TRIES = 3
RETRY_SECONDS = 1.0
# What was asked this recently is not asked again, and a head that did not answer is left alone for a while:
# the dispatcher has other attempts to look after.
LOOK_SECONDS = 1.0
# Over all attempts: a pass that asked after each of a thousand would take longer than a lease. Where many run, each is
# asked after less often, and its lease tells in the meantime.
LOOKS_PER_SECOND = 20
SILENT_SECONDS = 5.0
# Ray gives a driver 3 s after its SIGTERM.
STOP_SECONDS = 8.0
KEPT_LOG_BYTES = 2**20

# A path of this machine means nothing on the cluster: there the nodes' own environment says where data lies.
LOCAL_ONLY = frozenset({"PURL_DATASETS_DIR", "PURL_DATASETS_CACHE", "PURL_DATASETS_CACHE_BYTES"})
ANYWHERE = "s3://"

ADDRESS_REMEDY = "look at PURL_RAY_ADDRESS: http://head:8265 as a rule"
TOKEN_REMEDY = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"


class RayJobsLauncher:
    """`send_code`: the workers' code goes along as a package; else the cluster's image has it.

    `grows_to`: nodes that the cluster brings once Ray is asked for them.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None,
        send_code: bool = True,
        driver_cpus: float = 0.0,
        grows_to: Sequence[Group] = (),
        timeout: httpx.Timeout = TIMEOUT,
    ) -> None:
        self._address = address
        # Ray keeps a driver that asks for nothing on the head.
        self._room: dict[str, Any] = {"entrypoint_num_cpus": driver_cpus} if driver_cpus else {}
        self._send_code = send_code
        self._grown = Capacity(
            cpus=sum(group.nodes * group.cpus for group in grows_to),
            gpus=sum(group.nodes * group.gpus for group in grows_to),
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, trust_env=False)
        self._seen: dict[str, tuple[float, bool]] = {}
        self._looked_in, self._looks = 0, 0  # in that second so many times
        self._silent_until = 0.0
        self._capacity: Capacity | None = self._grown if grows_to else None

    @property
    def place(self) -> str:
        return self._address

    def capacity(self) -> Capacity | None:
        """What the nodes that are there now have in all, by Ray's state API, or what they may grow to if that is more.

        Who is silent has what it had.
        """
        if time.monotonic() < self._silent_until:
            return self._capacity
        try:
            answer = self._call("GET", NODES, params=LIVING, timeout=NODES_TIMEOUT)
            nodes = tuple(_node(told) for told in answer.json()["data"]["result"]["result"])
        except LaunchFailed as problem:
            log.warning("the nodes of the cluster are not known: %s", problem)
        except (ValueError, KeyError, TypeError):
            log.warning("the nodes of the cluster are not known: %s answers in another way than it did", NODES)
        else:
            # A head that has just begun knows of no node yet, not even of itself.
            if nodes:
                cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
                self._capacity = Capacity(
                    cpus=max(cpus, self._grown.cpus), gpus=max(gpus, self._grown.gpus), nodes=nodes
                )
        return self._capacity

    def version(self) -> str:
        """Of the Ray that answers there; LaunchFailed says why none does, or none that is ours to use."""
        answer = self._call("GET", "/api/version", timeout=NODES_TIMEOUT)
        try:
            return str(answer.raise_for_status().json()["ray_version"])
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
            raise LaunchFailed("what answers is no Ray dashboard", remedy=ADDRESS_REMEDY) from None

    def launch(
        self,
        env: Mapping[str, str],
        *,
        module: str,
        name: str,
        log_path: Path,
        record: Callable[[Handle], object] = lambda _: None,
    ) -> Handle:
        handle = {"ray_job": name, "address": self._address, "log": str(log_path)}
        # The name is known before the job is: whatever happens from here on, somebody can look for it.
        record(handle)
        sources = code.files()
        settings = {name: value for name, value in env.items() if name not in LOCAL_ONLY or value.startswith(ANYWHERE)}
        settings |= {"PURL_RAY_ADDRESS": "auto", "PURL_CODE_SHA256": code.sha256(sources)}
        runtime_env: dict[str, Any] = {"env_vars": settings}
        if self._send_code:
            runtime_env["working_dir"] = self._send(sources)
        # The driver leads the session that Ray makes for it, so that it can end everything of its own.
        entrypoint = f"exec python -m {module}"
        self._submit({"submission_id": name, "entrypoint": entrypoint, "runtime_env": runtime_env, **self._room})
        return handle

    def alive(self, handle: Handle) -> bool:
        """A job that Ray does not know may have been forgotten by a restarted head: then the lease tells."""
        if not self._is_ours(handle):
            return True
        job, now = handle["ray_job"], time.monotonic()
        asked_at, alive = self._seen.get(job, (-inf, True))
        patience = max(LOOK_SECONDS, len(self._seen) / LOOKS_PER_SECOND)
        if not alive or now - asked_at < patience or now < self._silent_until or not self._may_look(now):
            return alive
        try:
            info = self._find(job)
        except LaunchFailed as problem:
            log.warning("job %s: %s", job, problem)
            return True
        alive = info is None or info.get("status") not in ENDED
        self._seen[job] = (now, alive)
        return alive

    def _may_look(self, now: float) -> bool:
        if int(now) != self._looked_in:
            self._looked_in, self._looks = int(now), 0
        self._looks += 1
        return self._looks <= LOOKS_PER_SECOND

    def why_dead(self, handle: Handle) -> str | None:
        try:
            info = self._find(handle["ray_job"]) if self._is_ours(handle) else None
        except LaunchFailed:
            return None
        if info is None:
            return None
        if info.get("driver_exit_code") == UNREACHABLE_EXIT:
            return (
                "the cluster can't reach the service: set PURL_PUBLIC_URL to an address that its nodes can connect to"
            )
        return f"Ray says {info.get('status')}" + (f", {info['error_type']}" if info.get("error_type") else "")

    def ask_to_drain(self, handle: Handle) -> None:
        """By heartbeat alone: Ray's own way to ask would kill the driver 3 s later."""

    def end(self, handle: Handle, *, at_once: bool = False) -> None:  # noqa: ARG002
        """A cluster that does not answer holds nobody up: its worker ends itself before the lease is over."""
        if not self._is_ours(handle):
            return
        job = handle["ray_job"]
        try:
            deadline = time.monotonic() + STOP_SECONDS
            while (info := self._find(job)) and info.get("status") not in ENDED and time.monotonic() < deadline:
                self._call("POST", f"/api/jobs/{job}/stop")
                time.sleep(0.2)
            self._fetch_log(job, Path(handle["log"]))
        except LaunchFailed as problem:
            log.warning("job %s is left to its lease: %s", job, problem)
        self._seen.pop(job, None)

    def close(self) -> None:
        self._http.close()

    def _submit(self, body: dict[str, Any]) -> None:
        """Looks before each try: an answer that got lost is no reason to run anything twice."""
        job = body["submission_id"]
        for tries_left in reversed(range(TRIES)):
            if self._find(job) is not None:
                return
            try:
                answer = self._call("POST", "/api/jobs/", json=body)
            except LaunchFailed:
                if not tries_left:
                    raise
            else:
                if answer.is_success:
                    return
                log.warning("job %s: Ray answers %d to its submission", job, answer.status_code)
                if answer.status_code < 500:
                    break
            time.sleep(RETRY_SECONDS)
        if self._find(job) is None:
            raise LaunchFailed("the Ray cluster does not take the job", remedy="look at the head's dashboard log")

    def _find(self, job: str) -> dict[str, Any] | None:
        """What Ray knows of it; None for nothing."""
        answer = self._call("GET", f"/api/jobs/{job}")
        if answer.status_code == 404:
            return None
        if not answer.is_success:
            raise LaunchFailed(f"the Ray cluster answers {answer.status_code}", remedy="look at the head's log")
        try:
            found: dict[str, Any] = answer.json()
        except ValueError:
            raise LaunchFailed("what answers is no Ray dashboard", remedy=ADDRESS_REMEDY) from None
        return found

    def _send(self, sources: dict[str, bytes]) -> str:
        """The package by its content: there already, or sent now. Asking keeps it from being cleared away meanwhile."""
        name = f"_ray_pkg_{code.sha256(sources)[:32]}.zip"
        path = f"/api/packages/gcs/{name}"
        if self._call("GET", path).status_code == 404:
            answer = self._call("PUT", path, content=packed(sources))
            if not answer.is_success:
                raise LaunchFailed("the Ray cluster does not take our code", remedy="look at the head's dashboard log")
        return f"gcs://{name}"

    def _fetch_log(self, job: str, path: Path) -> None:
        """A full disk, or an answer that is none, costs the log: whoever ends a job has more to do than that."""
        answer = self._call("GET", f"/api/jobs/{job}/logs", timeout=LOG_TIMEOUT)
        try:
            if answer.is_success and (said := answer.json().get("logs")):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(said.encode()[-KEPT_LOG_BYTES:])
        except (OSError, ValueError) as problem:
            log.warning("job %s: its log is not kept: %s", job, problem)

    def _call(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **kwargs)
        except httpx.TransportError as error:
            self._silent_until = time.monotonic() + SILENT_SECONDS
            raise LaunchFailed(
                f"the Ray cluster does not answer ({type(error).__name__})", remedy="look at PURL_RAY_ADDRESS"
            ) from error
        if answer.status_code in (401, 403):
            raise LaunchFailed("the Ray cluster refuses our token", remedy=TOKEN_REMEDY)
        return answer

    def _is_ours(self, handle: Handle) -> bool:
        return "ray_job" in handle and handle.get("address") == self._address


def _node(told: dict[str, Any]) -> Node:
    has = told["resources_total"]
    return Node(
        name=f"{told.get('node_ip', 'a node')}{', the head' if told.get('is_head_node') else ''}",
        cpus=float(has.get("CPU", 0.0)),
        gpus=float(has.get("GPU", 0.0)),
        memory=float(has.get("memory", 0.0)),
    )


def packed(sources: dict[str, bytes]) -> bytes:
    """The same bytes for the same files, whenever and wherever they are packed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sources.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def read_token(environ: Mapping[str, str]) -> str | None:
    """Ray's own variables. A cluster without a token must be asked for in so many words."""
    if environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    path = environ.get("RAY_AUTH_TOKEN_PATH", "")
    try:
        token = environ.get("RAY_AUTH_TOKEN", "") or (Path(path).read_text() if path else "")
    except OSError as problem:
        raise BadSetting("RAY_AUTH_TOKEN_PATH", f"can't be read ({problem.strerror})", remedy=TOKEN_REMEDY) from None
    if not token.strip():
        remedy = f"{TOKEN_REMEDY}, or RAY_AUTH_MODE=disabled where it has none"
        raise BadSetting("PURL_RAY_ADDRESS", "names a cluster, and there is no token for it", remedy=remedy)
    return token.strip()
