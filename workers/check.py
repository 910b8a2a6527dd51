"""`checking` by itself, for a dry run: `python -m workers.check`, through the same launcher as an attempt.

PURL_URL, PURL_CHECK, PURL_TOKEN: where to report, as whom. PURL_DATASETS_DIR: the data root. PURL_DOWNLOAD: 1
if what is missing there may be fetched. PURL_CHECK_SECONDS: for how long anybody waits for the answer.
PURL_SCRATCH_DIR: a folder of its own, which the launcher removes after it. PURL_RAY_ADDRESS: the cluster whose size
the job must fit; empty: this machine's. PURL_RAY_GROWS_TO: nodes that it may bring.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Mapping

import httpx

from purlkit import code
from purlkit.errors import CodeMismatch, PurlError
from purlkit.results import UNREACHABLE_EXIT, CheckAnswer, CheckBrief, CheckReport, ErrorReport
from purlkit.spec import JobSpec
from purlkit.startup import leave, loading
from workers import scratch

# Whoever waits ends this process when the time is up; only when that one was killed is this alarm heard.
SPARE_SECONDS = 5
# An address that leads nowhere is told apart from a slow service in good time.
CONNECT_SECONDS = 10


def main(environ: Mapping[str, str] = os.environ) -> int:
    signal.alarm(math.ceil(float(environ["PURL_CHECK_SECONDS"])) + SPARE_SECONDS)
    path = f"/checks/{environ['PURL_CHECK']}"
    headers = {"Authorization": f"Bearer {environ['PURL_TOKEN']}"}
    timeout = httpx.Timeout(30, connect=CONNECT_SECONDS)
    with httpx.Client(base_url=environ["PURL_URL"], headers=headers, timeout=timeout, trust_env=False) as http:
        try:
            answer = http.get(path)
        except httpx.TransportError as error:
            print(f"PURL_PUBLIC_URL does not lead from here to the service: {error}", file=sys.stderr)
            return UNREACHABLE_EXIT
        brief = CheckBrief.model_validate_json(answer.raise_for_status().content)
        report = _answer(http, brief, environ)
        http.post(f"{path}/report", json=report.model_dump(mode="json")).raise_for_status()
    return 0


def _answer(http: httpx.Client, brief: CheckBrief, environ: Mapping[str, str]) -> CheckAnswer:
    try:
        code.check(environ.get("PURL_CODE_SHA256"))
    except CodeMismatch as error:
        return CheckAnswer(runnable=False, reasons=(ErrorReport(code=error.code, message=str(error)),))
    # Imported only now: the service learns at once when this process can't even reach it.
    with loading():
        from purlkit.check import check
        from purlkit.storage.sight import sights

    with scratch.folder(environ) as folder:
        weights = None
        if brief.weights_href is not None:
            weights = folder / "uploaded.safetensors"
            weights.write_bytes(http.get(brief.weights_href).raise_for_status().content)
        download = environ.get("PURL_DOWNLOAD") == "1"
        root = scratch.datasets(environ)
        seen = sights(root)
        report = check(brief.spec, data_root=root, weights=weights, download=download, patient=False)
    report = with_resources(report, brief.spec, environ)
    return CheckAnswer.model_validate({**dict(report), "datasets": seen})


def with_resources(report: CheckReport, spec: JobSpec, environ: Mapping[str, str]) -> CheckReport:
    """The report, with what the machine or the cluster has against the job."""
    from workers import capacity, cluster

    cluster.quiet()
    try:
        grows, address = capacity.Growth.told(environ), environ.get("PURL_RAY_ADDRESS", "")
        capacity.check(spec.resources, ray_address=address, at_least=spec.resources.processes, grows=grows)
    except PurlError as error:
        reason = ErrorReport(code=error.code, message=str(error), at=error.at)
        return report.model_copy(update={"runnable": False, "reasons": (*report.reasons, reason)})
    return report


if __name__ == "__main__":
    leave(main())
