"""Reports: one HTML file that shows what a plan does and why."""

from placement.report.plan_report import report_html
from placement.report.subject import Subject, subject_of

__all__ = ["Subject", "report_html", "subject_of"]
