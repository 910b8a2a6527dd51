"""Starts the processes of attempts and checks, and ends them to the last one.

A launcher is told what to run and hands back a handle: a JSON object that only launchers look into, kept in the
attempt's row so that a later dispatcher finds the same processes again.
"""

from __future__ import annotations

from collections.abc import Mapping

from purlkit import growth
from services.launch.local import LocalLauncher
from services.launch.protocol import Capacity, Handle, Launcher
from services.launch.ray_jobs import RayJobsLauncher, read_token
from services.settings import Settings

__all__ = ["Capacity", "Handle", "Launcher", "LocalLauncher", "RayJobsLauncher", "launcher_for"]


def launcher_for(settings: Settings, environ: Mapping[str, str]) -> Launcher:
    """Ray Jobs where PURL_RAY_ADDRESS is one of HTTP, else processes of this machine."""
    if settings.ray_address.startswith(("http://", "https://")):
        return RayJobsLauncher(
            settings.ray_address,
            token=read_token(environ),
            send_code=settings.ray_code == "upload",
            driver_cpus=settings.ray_driver_cpus,
            grows_to=growth.parse(settings.ray_grows_to),
        )
    return LocalLauncher()
