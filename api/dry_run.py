"""What a job would be, found by a short-lived worker that may know torch, while this process does not.

What is remembered of an earlier check of the same fingerprint, and why:
- that the spec can't work by itself (a sparsity out of reach, a model that doesn't fit the data): nothing around it
  changes that, so it is answered at once;
- that it can run, if its data set comes inside a package and its weights are trained here or uploaded, on a Ray of its
  own on this machine: an upload is named by its sha256 and never goes away, so there is nothing left to be missing.
Everything else hangs on files and nodes that come and go, and is asked again each time.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.deps import Parts
from api.errors import Problem
from api.schemas import CheckView
from purlkit.results import CheckReport
from purlkit.spec import JobSpec, Uploaded
from purlkit.zoo import catalog
from services import checks, weights
from services.launch import Handle

log = logging.getLogger(__name__)

# A checker takes seconds to import torch; a tenth of that is soon enough to see its answer.
LOOK_SECONDS = 0.1

# Of a dead checker's output: a traceback.
LOG_TAIL_BYTES = 4000


async def dry_run(parts: Parts, spec: JobSpec) -> CheckView:
    """The checker's report, with the spec as a job would have it."""
    spec = spec.resolve()
    report = await run_in_threadpool(_remembered, parts, spec)
    if report is None:
        report = await ask(parts, spec)
    return CheckView.model_validate({**dict(report), "spec": spec, "fingerprint": spec.fingerprint})


async def ask(parts: Parts, spec: JobSpec) -> CheckReport:
    """What a checker says now, whatever is remembered."""
    if parts.checks.locked():
        raise Problem(
            429, "too_many_checks", "other dry runs are going on: try again soon", headers={"Retry-After": "5"}
        )
    async with parts.checks:
        return await _check(parts, spec)


def _remembered(parts: Parts, spec: JobSpec) -> CheckReport | None:
    with parts.db.read() as session:
        structure = checks.cached(session, spec.fingerprint)
        if structure is not None and not structure.runnable:
            return structure
        latest = checks.latest(session, spec.fingerprint)
        if latest is not None and latest.runnable and _can_lack_nothing(parts, session, spec):
            return latest
    return None


def _can_lack_nothing(parts: Parts, session: Session, spec: JobSpec) -> bool:
    chosen = spec.model.weights
    here = not isinstance(chosen, Uploaded) or weights.find(session, chosen.sha256) is not None
    nodes_come_and_go = bool(parts.settings.ray_address)
    fetched = chosen == "pretrained" or bool(catalog.dataset(spec.data.name).files)
    return here and not fetched and not nodes_come_and_go


async def _check(parts: Parts, spec: JobSpec) -> CheckReport:
    """Runs a checker, and leaves no process of it behind."""
    seconds = parts.settings.check_seconds
    check_id, log_path, handle = await run_in_threadpool(_launch, parts, spec)
    try:
        async with asyncio.timeout(seconds):
            report = await _wait(parts, check_id, handle)
        why = await run_in_threadpool(parts.launcher.why_dead, handle) if report is None else None
    except TimeoutError:
        raise Problem(
            504, "check_timeout", f"the check took longer than {seconds:g} s: try again, or raise PURL_CHECK_SECONDS"
        ) from None
    finally:
        await run_in_threadpool(parts.launcher.end, handle)
    if report is None:
        log.error("the checker of %s died; its last words: %s", check_id, await run_in_threadpool(_tail, log_path))
        raise Problem(500, "check_failed", why or "the check's process died: the service's log has its last words")
    await run_in_threadpool(log_path.unlink, missing_ok=True)
    return report


def _launch(parts: Parts, spec: JobSpec) -> tuple[str, Path, Handle]:
    settings = parts.settings
    with parts.db.write() as session:
        check_id, token = checks.create(session, spec, valid_seconds=settings.check_seconds)
    env = {
        "PURL_URL": str(settings.public_url),
        "PURL_CHECK": check_id,
        "PURL_TOKEN": token,
        **settings.of_workers,
        # A checker whose API was killed has nobody to end it.
        "PURL_CHECK_SECONDS": f"{settings.check_seconds:g}",
    }
    log_path = settings.data_dir / "logs" / f"{check_id}.log"
    return check_id, log_path, parts.launcher.launch(env, module="workers.check", name=check_id, log_path=log_path)


async def _wait(parts: Parts, check_id: str, handle: Handle) -> CheckReport | None:
    """The report, or None if the checker died without one."""
    while not parts.stopping.is_set():
        # In this order: a checker that reports and leaves between the two questions has reported.
        alive = await run_in_threadpool(parts.launcher.alive, handle)
        report = await run_in_threadpool(_report, parts, check_id)
        if report is not None or not alive:
            return report
        await asyncio.sleep(LOOK_SECONDS)
    raise Problem(503, "stopping", "the service is stopping: try again once it is back", headers={"Retry-After": "5"})


def _report(parts: Parts, check_id: str) -> CheckReport | None:
    with parts.db.read() as session:
        return checks.report(session, check_id)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return "none"
