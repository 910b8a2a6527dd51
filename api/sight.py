"""What the workers see of the data sets: asked of a checker where they don't look at this machine's own folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from api.deps import Parts
from api.dry_run import ask
from api.errors import Problem
from purlkit.errors import PurlError
from purlkit.results import Sight
from purlkit.spec import JobSpec, Model, Targets
from purlkit.storage.sight import sights
from purlkit.zoo import catalog
from services import checks

# What a checker saw is told to others for so long; every dry run looks anew.
REMEMBERED_SECONDS = 300.0

# The least that can be asked about: digits need no files and no nodes of any size.
LEAST = JobSpec(model=Model(name="digits-resnet"), targets=Targets(sparsity=0.5))


async def seen(parts: Parts) -> Mapping[str, str | None]:
    """Why the workers don't see a data set, or None where they do; without a name here they have never heard of it."""
    settings = parts.settings
    if isinstance(settings.datasets_dir, Path) and not settings.ray_address:
        found = await run_in_threadpool(sights, settings.datasets_dir)
    else:
        came = time.monotonic()
        async with parts.looking.lock:
            found = await run_in_threadpool(_remembered, parts) or _in_vain_since(parts, came) or await _asked(parts)
    return {sight.name: sight.reason for sight in found}


def _remembered(parts: Parts) -> list[Sight]:
    with parts.db.read() as session:
        return checks.sights(session, within_seconds=REMEMBERED_SECONDS) or []


def _in_vain_since(parts: Parts, came: float) -> list[Sight]:
    """A cluster that does not answer is waited for a minute: not one after the other by all who ask."""
    return parts.looking.in_vain if parts.looking.in_vain_at > came else []


async def _asked(parts: Parts) -> list[Sight]:
    try:
        await ask(parts, LEAST.resolve())
        why = "they did not say"
    except Problem as problem:
        why = str(problem)
    except PurlError as problem:
        why = str(problem)
    reason = f"the workers could not be asked: {why}"
    unknown = [Sight(name=each.name, reason=reason if each.files else None) for each in catalog.all_datasets().values()]
    parts.looking.in_vain, parts.looking.in_vain_at = unknown, time.monotonic()
    return await run_in_threadpool(_remembered, parts) or unknown
