"""A typed client of the service, blocking and asyncio; it loads no torch.

with PurlClient("http://127.0.0.1:8000") as purl:
    job = purl.submit({"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}})
    for event in job.events():
        print(event.type, event.data)
    print(job.wait().result.verdict)
    job.download("out/")
"""

from purlkit.client.aio import AsyncJob, AsyncPurlClient, AsyncSweep
from purlkit.client.blocking import Job, PurlClient, Sweep
from purlkit.client.problems import (
    Busy,
    DownloadDamaged,
    IdempotencyMismatch,
    IllegalMove,
    InvalidRequest,
    JobDidNotSucceed,
    NotFound,
    NotYet,
    Problem,
    StoreFull,
    Unauthorized,
    Unreachable,
)
from purlkit.client.records import Artifact, Candidate, Episode, Event, Result

__all__ = [
    "Artifact",
    "AsyncJob",
    "AsyncPurlClient",
    "AsyncSweep",
    "Busy",
    "Candidate",
    "DownloadDamaged",
    "Episode",
    "Event",
    "IdempotencyMismatch",
    "IllegalMove",
    "InvalidRequest",
    "Job",
    "JobDidNotSucceed",
    "NotFound",
    "NotYet",
    "Problem",
    "PurlClient",
    "Result",
    "StoreFull",
    "Sweep",
    "Unauthorized",
    "Unreachable",
]
