"""The application, wired in one place. Nothing connects when this is imported."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import Depends, FastAPI

from api import docs, errors
from api.dashboard import login, pages
from api.deps import Parts, caller
from api.hosts import OnlyOwnNames, names_of
from api.observed import Observed
from api.routes import (
    artifacts,
    attempts,
    catalog,
    checks,
    events,
    health,
    jobs,
    logs,
    manual,
    metrics,
    recipes,
    report,
    sweeps,
    weights,
)
from services.artifacts import Store
from services.database import Database
from services.launch import Launcher
from services.settings import Settings

DESCRIPTION = """Prune a trained network to the sparsity you ask for: PuRL searches, naive methods race it on the same
budget, and the winner comes back verified. Every refusal is an RFC 9457 problem with a stable `code`, and names the
fields to blame."""

# What needs a key, whatever its routes ask for, and what needs none: who is alive, the manual, the way in, and
# workers, who show the token of their attempt.
CALLERS = (jobs, sweeps, events, artifacts, report, logs, weights, catalog, recipes, metrics, pages)
OTHERS = (health, manual, login, attempts, checks)


def create_app(db: Database, settings: Settings, store: Store, launcher: Launcher) -> FastAPI:
    """`settings.public_url` must be known by now: checkers are told to report there."""
    app = FastAPI(
        title="PuRL",
        version=version("purlkit"),
        description=DESCRIPTION,
        # A trailing slash is another address: a redirect would lose a POST's body with some clients.
        redirect_slashes=False,
        responses=docs.ANY_OTHER,
        # What a generated client calls its functions.
        generate_unique_id_function=lambda route: route.name,
        openapi_url=None,  # in routes/manual.py, like /docs: FastAPI's own page loads scripts from elsewhere
        docs_url=None,
        redoc_url=None,
    )
    app.state.parts = Parts(db=db, settings=settings, store=store, launcher=launcher)
    errors.install(app)
    docs.install(app)
    app.state.routes = []
    for part in (*CALLERS, *OTHERS):
        app.include_router(part.router, dependencies=[Depends(caller)] if part in CALLERS else [])
        app.state.routes += part.router.routes
    names = names_of(settings)
    if names is not None:
        app.add_middleware(OnlyOwnNames, names=names)
    app.add_middleware(Observed)
    return app
