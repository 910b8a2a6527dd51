"""Ray as this attempt's engine: started or joined quietly, checked before anything is built on it, and left clean."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from purlkit.errors import NotEnoughResources
from purlkit.spec import Resources

# Read by Ray when it is imported: no usage reports, no guessing of a virtual environment, no chatter of its C++ side.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def quiet() -> None:
    """To be called before anything imports Ray."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def connected(address: str, scratch: Path | None = None) -> Iterator[None]:
    """A Ray of our own on this machine where no address is given, else the cluster there.

    Ray's ports are open to the machine's network; a Ray of our own asks for a token on all of them by itself. For a
    cluster's address the operator sets RAY_AUTH_MODE=token on every node and for the workers. A Ray of our own keeps
    its logs and sockets in `scratch`.
    """
    import ray

    ours = signal.getsignal(signal.SIGTERM)
    ray.init(
        address=address or "local",
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace="purl",
        **({} if address or scratch is None else {"_temp_dir": str(_folder_for_ray(scratch))}),
    )
    signal.signal(signal.SIGTERM, ours)  # Ray puts its own in place, which would drop what is not yet sent
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _folder_for_ray(scratch: Path) -> Path:
    """Ray opens its folder to every user of the machine; below one that is closed to them that does no harm."""
    folder = scratch / "r"
    folder.mkdir(exist_ok=True)
    return folder


def check_fits(resources: Resources) -> None:
    """Refuses what this cluster can never hold: Ray itself would wait for it without an end."""
    import ray

    total = ray.cluster_resources()
    for kind, need in (("CPU", resources.cpus), ("GPU", resources.gpus)):
        have = total.get(kind, 0.0)
        if need > have:
            raise NotEnoughResources(
                f"{resources.env_runners} runners need {need:g} {kind}s and this cluster has {have:g}",
                at="/resources",
                remedy=f"ask for at most {have:g} {kind}s in all, or add nodes",
            )
