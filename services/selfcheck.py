"""`python -m services check`: would the service start with these settings? A JSON line for each finding.

It changes nothing: no folder, no table and no file is made that was not there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError

from purlkit.errors import PurlError
from services.artifacts import open_store
from services.database import Database, check_schema, unusable
from services.launch import RayJobsLauncher, launcher_for
from services.settings import S3Location, Settings

Finding = dict[str, str]


def examine(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    yield {"known": json.dumps(sorted(f"PURL_{field.name.upper()}" for field in fields(Settings)))}
    try:
        settings = Settings.from_environ(environ)
    except PurlError as problem:
        yield _fault("settings", problem)
        return
    yield from _folders(settings)
    yield from _database(settings)
    yield from _store(settings)
    yield from _ray(settings, environ)
    yield from _port(settings)


def _folders(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        remedy = "set PURL_DATA_DIR to a folder that this account may write to"
        yield _told("data folder", "fault", f"{nearest} can't be written to", remedy)
        return
    free = shutil.disk_usage(nearest).free
    if free < settings.min_free_bytes:
        least = f"with less than {settings.min_free_bytes >> 20} MB nothing new is taken in"
        said = f"{free >> 20} MB free below {nearest}: {least}"
        yield _told("data folder", "fault", said, "free some, or lower PURL_MIN_FREE_BYTES")
    else:
        yield _told("data folder", "well", f"{folder}, {free >> 30} GB free")
    here = settings.datasets_dir
    if not isinstance(here, Path):
        yield _told("data sets", "well", f"{here}: `purl datasets` says what the workers see of it")
        return
    held = sorted(path.name for path in here.iterdir()) if here.is_dir() else []
    yield _told("data sets", "well", f"{here}: {', '.join(held) or 'none yet; digits comes along'}")


def _database(settings: Settings) -> Iterator[Finding]:
    file = settings.database_url.removeprefix("sqlite:///")
    if file != settings.database_url and not Path(file).exists():
        yield _told("database", "well", f"{file} will be made at the first start")
        return
    try:
        with closing(Database.open(settings.database_url)) as db:
            if not inspect(db.engine).get_table_names():
                yield _told("database", "fault", "it has no tables", "python -m services migrate")
                return
            check_schema(db)
    except DBAPIError as problem:
        yield _fault("database", unusable(problem))
    except PurlError as problem:
        yield _fault("database", problem)
    else:
        yield _told("database", "well", db.engine.dialect.name)


def _store(settings: Settings) -> Iterator[Finding]:
    where = settings.artifacts
    if isinstance(where, Path) and not where.exists():
        yield _told("store", "well", f"{where} will be made at the first start")
        return
    try:
        open_store(settings).check()
    except (PurlError, OSError) as problem:
        yield _fault("store", problem)
    else:
        name = f"s3://{where.bucket}" if isinstance(where, S3Location) else str(where)
        yield _told("store", "well", f"{name} takes files")


def _ray(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    if not settings.ray_address:
        yield _told("Ray", "well", "each attempt starts one of its own")
        return
    try:
        launcher = launcher_for(settings, environ)
        if not isinstance(launcher, RayJobsLauncher):
            yield _told("Ray", "well", f"attempts join the cluster at {settings.ray_address}, which was not asked")
            return
        with closing(launcher):
            yield _told("Ray", "well", f"{launcher.version()} answers at {settings.ray_address}")
    except PurlError as problem:
        yield _fault("Ray", problem)


def _port(settings: Settings) -> Iterator[Finding]:
    if settings.port == 0:
        return
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as problem:
            said = f"{settings.host}:{settings.port} can't be had ({problem.strerror})"
            yield _told("port", "warning", said, "if that is not this service, set PURL_PORT or PURL_HOST")
        else:
            yield _told("port", "well", f"{settings.host}:{settings.port} is free")


def _told(about: str, state: str, said: str, remedy: str = "") -> Finding:
    return {"about": about, "state": state, "said": said, "remedy": remedy}


def _fault(about: str, problem: Exception) -> Finding:
    """Our messages say what is wrong, a colon, and the remedy."""
    said, _, remedy = str(problem).rpartition(": ")
    return _told(about, "fault", said or str(problem), remedy if said else "")
