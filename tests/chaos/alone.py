"""API and dispatcher in one process that is killed whole, with attempts that the test plays itself."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from api.main import create_app
from api.server import make_server
from services import logs
from services.artifacts import open_store
from services.database import Database
from services.dispatcher import Dispatcher
from services.launch import Capacity, Handle
from services.settings import Settings
from services.stopping import Stop
from tests.chaos.failpoints import Failpoints, arm

# Who has had the last word is left alone for so long: the time in which a job can be deleted that has processes still.
LINGER_SECONDS = 5.0


@dataclass
class PaperLauncher:
    """Starts nothing: it writes down what it was to start, for whoever plays it, and is told who lives by files."""

    folder: Path
    place: str = "here"

    def capacity(self) -> Capacity | None:
        return None

    def launch(
        self,
        env: Mapping[str, str],
        *,
        module: str,  # noqa: ARG002
        name: str,
        log_path: Path,
        record: Callable[[Handle], object] = lambda _: None,
    ) -> Handle:
        for refusal in self.folder.glob("refuse-*"):
            refusal.unlink()
            raise RuntimeError("this one can't be started")
        handle: Handle = {"name": name}
        record(handle)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log_path.write_text("its last words\n")
        draft = self.folder / f"{name}.draft"
        draft.write_text(json.dumps(dict(env)))
        os.rename(draft, self.folder / f"{name}.json")  # noqa: PTH104, a rename of our own
        return handle

    def alive(self, handle: Handle) -> bool:
        return not (self.folder / f"{handle['name']}.dead").exists()

    def why_dead(self, handle: Handle) -> str | None:  # noqa: ARG002
        return None

    def ask_to_drain(self, handle: Handle) -> None: ...

    def end(self, handle: Handle, *, at_once: bool = False) -> None:  # noqa: ARG002
        (self.folder / f"{handle['name']}.dead").touch()


def launched(folder: Path, job_id: str) -> tuple[int, dict[str, str]] | None:
    """Number and environment of the job's newest attempt."""
    found = [(int(path.stem.rpartition("-a")[2]), path) for path in folder.glob(f"{job_id}-a*.json")]
    if not found:
        return None
    number, path = max(found)
    return number, json.loads(path.read_text())


def serve(environ: Mapping[str, str], listening: socket.socket, points: Path, launches: Path) -> None:
    os.environ.update(environ)
    arm(Failpoints(points))
    logs.set_up("alone")
    settings = Settings.from_environ(environ)
    launcher = PaperLauncher(launches)
    with closing(Database.open(settings.database_url)) as db, closing(Stop.of_this_process()) as stop:
        store = open_store(settings)
        store.check()
        server = make_server(create_app(db, settings, store, launcher))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        Dispatcher(db, settings, launcher, store, linger_seconds=LINGER_SECONDS).run(stop)
        server.should_exit = True
        thread.join()
