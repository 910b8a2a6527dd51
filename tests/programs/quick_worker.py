"""An attempt's process that does no work: it reports, succeeds, and notes if its job had another one beside it."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import sys
import time
from pathlib import Path

import httpx

from purlkit.results import CHECKPOINT, Finish, Heartbeat, Outcome, Phase
from services.testing import a_blob, a_result

SECONDS = 0.5
CHECKPOINT_BYTES = b"the pruned network"


def main() -> int:
    here = Path(os.environ["PURL_DATASETS_DIR"])  # a folder that all attempts know
    headers = {"Authorization": f"Bearer {os.environ['PURL_TOKEN']}"}
    url = f"{os.environ['PURL_URL']}/attempts/{os.environ['PURL_ATTEMPT']}"
    with httpx.Client(headers=headers, timeout=30, trust_env=False) as http:
        job_id = http.get(url).raise_for_status().json()["job_id"]
        with (here / job_id).open("a") as mine:
            try:
                fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                (here / "two-at-once").touch()
            until = time.monotonic() + SECONDS
            for counter in range(1, 1000):
                beat = Heartbeat(phase=Phase.SEARCH, counter=counter).model_dump(mode="json")
                http.post(f"{url}/heartbeat", json=beat).raise_for_status()
                if time.monotonic() > until:
                    break
                time.sleep(0.1)
            digest = base64.b64encode(hashlib.sha256(CHECKPOINT_BYTES).digest()).decode()
            sent = {"Repr-Digest": f"sha-256=:{digest}:"}
            http.put(f"{url}/artifacts/{CHECKPOINT}", content=CHECKPOINT_BYTES, headers=sent).raise_for_status()
            result = a_result(a_blob(CHECKPOINT_BYTES))
            finish = Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=(CHECKPOINT,))
            http.post(f"{url}/finish", json=finish.model_dump(mode="json")).raise_for_status()
    return 0


if __name__ == "__main__":
    sys.exit(main())
