"""A worker that reports, beats and does nothing else, until it is told to stop."""

from __future__ import annotations

import os
import time

from purlkit.results import Finish, Outcome, Phase
from workers.calls import Interrupted
from workers.link import Link
from workers.run import OUTCOMES

link = Link(os.environ["PURL_URL"], os.environ["PURL_ATTEMPT"], os.environ["PURL_TOKEN"])
link.start()
link.enter(Phase.SEARCH)
print("reported", flush=True)
try:
    while True:
        link.tick()
        link.check()
        time.sleep(0.05)
except Interrupted as interrupted:
    outcome: Outcome = OUTCOMES[interrupted.command]
    link.flush()
    link.finish(Finish(outcome=outcome))
