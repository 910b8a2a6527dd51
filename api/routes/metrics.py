"""What Prometheus collects from this process."""

from __future__ import annotations

from fastapi import Depends, Response

from api import docs
from api.deps import PartsDep, administrator
from api.router import Router
from services import metrics

# It tells of the jobs of all tenants.
router = Router(tags=["health"], dependencies=[Depends(administrator)])


@router.get(
    "/metrics",
    summary="Counters of this process and the state of the service, for Prometheus",
    response_class=Response,
    responses={200: {"description": "in Prometheus' text format", "content": docs.TEXT}},
)
def get_metrics(parts: PartsDep) -> Response:
    """Text in Prometheus' format. Counters are this process's own; gauges come from the database and are the same
    everywhere. A service that is open to others should keep this address to itself: see docs/operate.md."""
    return Response(metrics.render(parts.gauges.registry), headers={"Content-Type": metrics.CONTENT_TYPE})
