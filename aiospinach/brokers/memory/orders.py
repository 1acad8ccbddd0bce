"""Carries out orders about queues and jobs in memory."""

from __future__ import annotations

from typing import Any

from ..bulk import CancelSome, SteerDead
from ..pauses import Pause, Resume
from ..questions import Act
from .bulk import cancel_some, steer_dead
from .queue import QueueState
from .steering import pause, resume, steer


def carry_out(state: QueueState, act: Act[Any], now: int) -> Any:
    if isinstance(act, Pause):
        return pause(state, act, now)
    if isinstance(act, Resume):
        return resume(state, act)
    if isinstance(act, CancelSome):
        return cancel_some(state, act, now)
    if isinstance(act, SteerDead):
        return steer_dead(state, act, now)
    return steer(state, act, now)
