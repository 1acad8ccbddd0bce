"""What every view of an engine shares: its snapshots, and words for people.

The command line, the terminal view and the web view are built on it. It uses the public face of the package
only.
"""

from .overview import HISTORY, Overview, OverviewReader, QueueRow, read_overview
from .phrases import age, moment, number, progress_text, rate, short_number, status_name
from .text import printable

__all__ = [
    "HISTORY",
    "Overview",
    "OverviewReader",
    "QueueRow",
    "age",
    "moment",
    "number",
    "printable",
    "progress_text",
    "rate",
    "read_overview",
    "short_number",
    "status_name",
]
