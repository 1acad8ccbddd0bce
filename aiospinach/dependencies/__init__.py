"""Dependencies: parameters that a worker fills in, with values that factories make.

``declarations`` reads what a parameter declares. ``tree`` reads the whole function with the factories behind
it. ``injection`` opens the values of one job, ``shared`` those of one pool. ``overrides`` are for tests.
"""

from .declarations import Depends, Provided, Shared
from .injection import Injection, injection_of
from .overrides import Overrides
from .shared import Lifespan, SharedScope, check_lifespan

__all__ = [
    "Depends",
    "Injection",
    "Lifespan",
    "Overrides",
    "Provided",
    "Shared",
    "SharedScope",
    "check_lifespan",
    "injection_of",
]
