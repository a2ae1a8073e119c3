"""Reports: one HTML file that shows what a plan does and why."""

from placement.report.plan_report import report_html
from placement.report.reported_plan import ReportedPlan

__all__ = ["ReportedPlan", "report_html"]
