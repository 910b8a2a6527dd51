"""The application, wired in one place. Nothing connects when this is imported."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI

from api import docs, errors
from api.deps import Parts
from api.routes import artifacts, attempts, catalog, checks, events, health, jobs, recipes, weights
from services.artifacts import Store
from services.database import Database
from services.launch import Launcher
from services.settings import Settings

DESCRIPTION = """Prune a trained network to the sparsity you ask for: PuRL searches, naive methods race it on the same
budget, and the winner comes back verified. Every refusal is an RFC 9457 problem with a stable `code`, and names the
fields to blame."""


def create_app(db: Database, settings: Settings, store: Store, launcher: Launcher) -> FastAPI:
    """`settings.public_url` must be known by now: checkers are told to report there."""
    app = FastAPI(
        title="PuRL",
        version=version("purlkit"),
        description=DESCRIPTION,
        # A trailing slash is another address: a redirect would lose a POST's body with some clients.
        redirect_slashes=False,
        responses=docs.ANY_OTHER,
    )
    app.state.parts = Parts(db=db, settings=settings, store=store, launcher=launcher)
    errors.install(app)
    docs.install(app)
    for part in (jobs, events, artifacts, weights, catalog, recipes, health, attempts, checks):
        app.include_router(part.router)
    return app
