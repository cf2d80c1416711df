"""The report of a run: one HTML file made from the run folder, which opens offline."""

from bgan_video.reports.page import write_report

__all__ = ["write_report"]
