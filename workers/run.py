"""One attempt of a job, as a process of its own: `python -m workers.run` with a service URL and an attempt's token.

PURL_URL, PURL_ATTEMPT, PURL_TOKEN     where to report, as whom
PURL_DATASETS_DIR                      the data root
PURL_RAY_ADDRESS                       a Ray cluster; empty: a Ray of its own on this machine
PURL_RAY_GROWS_TO, PURL_GROW_SECONDS   nodes that the cluster may bring, and how long that may take
PURL_DOWNLOAD                          1: it may fetch public data and weights into the data root
PURL_CODE_SHA256                       of the code that the service means; unset: any
"""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from purlkit import code
from purlkit.errors import DiskFull, PurlError, RayUnreachable, place_of
from purlkit.processes import end_own_session
from purlkit.results import LOG, UNREACHABLE_EXIT, ErrorReport, Finish, Outcome
from purlkit.startup import leave, loading
from workers import cluster, scratch
from workers.attempt import Attempt
from workers.calls import Interrupted, Superseded, Unreachable
from workers.capacity import Growth
from workers.link import Link
from workers.logship import LogShipper, keep_tail, own_output

log = logging.getLogger("purl.worker")

LOG_FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"
OUTCOMES = {"pause": Outcome.PAUSED, "cancel": Outcome.CANCELLED, "drain": Outcome.DRAINED}


def main(environ: Mapping[str, str] = os.environ) -> int:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    for chatty in ("httpx", "onnx_ir"):  # they tell of every step; `purl logs` is for ours
        logging.getLogger(chatty).setLevel(logging.WARNING)
    link = Link(environ["PURL_URL"], environ["PURL_ATTEMPT"], environ["PURL_TOKEN"], on_fence=end_everything)
    signal.signal(signal.SIGTERM, lambda *_: link.drain())
    with scratch.folder(environ) as folder:
        return _attend(link, environ, folder)


def _attend(link: Link, environ: Mapping[str, str], folder: Path) -> int:
    said = own_output(folder, LOG_FORMAT)
    shipper = LogShipper(link, said)
    try:
        job = Attempt(
            brief=link.start(),
            link=link,
            datasets_dir=scratch.datasets(environ),
            scratch=folder,
            ray_address=environ.get("PURL_RAY_ADDRESS", ""),
            download=environ.get("PURL_DOWNLOAD") == "1",
            grows=Growth.told(environ),
        )
        shipper.start()
        finish = _run(job, expected_code=environ.get("PURL_CODE_SHA256"))
        shipper.stop()
        send_log(link, said, folder / LOG)
        link.finish(finish)
    except Unreachable as error:
        log.error("PURL_PUBLIC_URL does not lead from here to the service: %s", error)
        return UNREACHABLE_EXIT
    except Superseded as error:
        log.error("superseded: %s", error)
        return 3
    return 0


def send_log(link: Link, said: Path, kept: Path) -> None:
    """Whoever sees the end of the job can read at once how it came about. A disk that fails must not cost the end."""
    try:
        keep_tail(said, kept)
        link.put_artifact(LOG, kept, "text/plain; charset=utf-8")
    except OSError as problem:
        log.warning("the log is left to the dispatcher: %s", problem)


def _run(job: Attempt, *, expected_code: str | None = None) -> Finish:
    """Whatever happens to the work, the service hears how it ended."""
    try:
        code.check(expected_code)
        cluster.quiet()
        # Here and not above: a worker whose torch or Ray is broken still reports so.
        with loading():
            import torch

            from workers.pipeline import prune

        torch.set_num_threads(max(1, int(job.spec.resources.cpus_per_runner)))
        finish = prune(job)
        job.link.flush()
        return finish
    except Superseded:
        raise
    except Interrupted as interrupted:
        log.info("interrupted: %s", interrupted.command)
        job.link.flush()
        return Finish(outcome=OUTCOMES[interrupted.command])
    except Exception as error:
        log.exception("the attempt failed")
        return Finish(outcome=Outcome.FAILED, error=report_of(error))


def report_of(error: Exception) -> ErrorReport:
    """Our own errors say what the client can do, and whether it passes by itself; any other may, in another attempt."""
    cause = getattr(error, "cause", None)  # of what Ray brings from a task: the exception that was raised there
    if isinstance(cause, PurlError):
        error = cause
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = DiskFull()
        full.where = place_of(error)
        error = full
    # What a new head says to those of the old one. Ray raises it as an error of authentication and speaks of tokens.
    if "WrongClusterID" in str(error):
        anew = RayUnreachable("Ray's head has been started anew, and the new one does not know this attempt")
        anew.where = place_of(error)
        error = anew
    if isinstance(error, PurlError):
        where = error.where or place_of(error)
        return ErrorReport(code=error.code, message=str(error), at=error.at, where=where, retryable=error.retryable)
    return ErrorReport(
        code="internal_error",
        message=f"{type(error).__name__}: {error}"[:10_000],
        where=place_of(error),
        retryable=True,
    )


def end_everything() -> None:
    """Fencing: nothing of this attempt may run on. Only a session of our own is ended whole."""
    if os.getsid(0) == os.getpid():
        end_own_session()
    os._exit(3)


if __name__ == "__main__":
    leave(main())
