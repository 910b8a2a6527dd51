"""One attempt of a job, as a process of its own: `python -m workers.run` with a service URL and an attempt's token.

PURL_URL, PURL_ATTEMPT, PURL_TOKEN     where to report, as whom
PURL_DATASETS_DIR                      the data root
PURL_RAY_ADDRESS                       a Ray cluster; empty: a Ray of its own on this machine
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from purlkit.errors import PurlError
from purlkit.processes import end_own_session
from purlkit.results import LOG, ErrorReport, Finish, Outcome
from workers import cluster
from workers.attempt import Attempt
from workers.link import Interrupted, Link, Superseded
from workers.logship import LogShipper, keep_tail, own_output

log = logging.getLogger("purl.worker")

LOG_FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"
OUTCOMES = {"pause": Outcome.PAUSED, "cancel": Outcome.CANCELLED, "drain": Outcome.DRAINED}


def main(environ: Mapping[str, str] = os.environ) -> int:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    link = Link(environ["PURL_URL"], environ["PURL_ATTEMPT"], environ["PURL_TOKEN"], on_fence=_end_everything)
    signal.signal(signal.SIGTERM, lambda *_: link.drain())
    scratch = Path(environ["PURL_SCRATCH_DIR"])
    said = own_output(scratch, LOG_FORMAT)
    shipper = LogShipper(link, said)
    try:
        job = Attempt(
            brief=link.start(),
            link=link,
            datasets_dir=Path(environ["PURL_DATASETS_DIR"]),
            scratch=scratch,
            ray_address=environ.get("PURL_RAY_ADDRESS", ""),
        )
        shipper.start()
        finish = _run(job)
        shipper.stop()
        # Whoever sees the end of the job can read at once how it came about.
        keep_tail(said, scratch / LOG)
        link.put_artifact(LOG, scratch / LOG, "text/plain; charset=utf-8")
        link.finish(finish)
    except Superseded as error:
        log.error("superseded: %s", error)
        return 3
    return 0


def _run(job: Attempt) -> Finish:
    """Whatever happens to the work, the service hears how it ended."""
    try:
        cluster.quiet()
        # Here and not above: a worker whose torch or Ray is broken still reports so.
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
    """Our own errors say what the client can do and won't pass by themselves; any other may, in another attempt."""
    if isinstance(error, PurlError):
        return ErrorReport(code=error.code, message=str(error), at=error.at, where=_where(error))
    return ErrorReport(
        code="internal_error",
        message=f"{type(error).__name__}: {error}"[:10_000],
        where=_where(error),
        retryable=True,
    )


def _where(error: Exception) -> str:
    """The innermost frame of our own: the same place again means the same fault."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(f"/{part}/" in frame.filename for part in ("workers", "purlkit"))]
    frame = (ours or frames)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.name}"


def _end_everything() -> None:
    """Fencing: nothing of this attempt may run on. Only a session of our own is ended whole."""
    if os.getsid(0) == os.getpid():
        end_own_session()
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
