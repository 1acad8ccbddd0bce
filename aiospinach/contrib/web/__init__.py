"""A web view of an engine: its queues, jobs and workers, in a browser.

It needs the extra ``web``: ``pip install 'aiospinach[web]'``.
"""

try:
    import jinja2 as _jinja2
    import sse_starlette as _sse_starlette
    import starlette as _starlette
except ImportError as _error:
    raise ImportError(
        f"the web view needs {_error.name}: pip install 'aiospinach[web]'", name=_error.name
    ) from _error

from .access import Access, AccessCheck
from .site import Show
from .view import web_view

del _jinja2, _sse_starlette, _starlette

__all__ = ["Access", "AccessCheck", "Show", "web_view"]
