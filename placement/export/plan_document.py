"""The plan itself, by op name."""

from placement.export.request import Exported, ExportRequest
from placement.plan_file import PlanDocument, write_plan


def export_plan_file(request: ExportRequest) -> Exported:
    """Write `plan.json`."""
    request.out.mkdir(parents=True, exist_ok=True)
    path = request.out / "plan.json"
    document = PlanDocument(request.plan, dict(request.provenance))
    write_plan(document, request.graph, request.cluster, path)
    return Exported("plan", (path,))
