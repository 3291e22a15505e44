"""Reports of a trial: JSON with a published schema, HTML, and Markdown for a job summary."""

from seatrial.reports.model import Report
from seatrial.reports.writing import write

__all__ = ["Report", "write"]
