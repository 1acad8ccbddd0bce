"""The screen of one job."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aiospinach import DeadJob, Engine, Job, Verdict

from .bar import title_bar
from .cell import MUTED
from .job_actions import JOB_KEYS, JobActions
from .job_page import JobSeen, Stack, job_page
from .live_screen import BACK, QUIT


class JobScreen(JobActions[JobSeen]):
    """Shows one job: why it does not run, or what has become of it."""

    DEFAULT_CSS: ClassVar[str] = """
    #page {
        height: 1fr;
        padding: 1 2;
        background: $background;
        scrollbar-size-vertical: 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stack", "Stack"),
        *JOB_KEYS,
        BACK,
        QUIT,
    ]

    def __init__(self, engine: Engine, interval: float, job: Job) -> None:
        super().__init__(engine, interval)
        self._job = job
        self._dead: DeadJob | None = None
        self._stack: Stack | None = None
        self._page = Static(id="text")

    def body(self) -> list[Widget]:
        return [VerticalScroll(self._page, id="page")]

    async def read(self) -> JobSeen:
        explanation = await self.engine.explain(self._job)
        self._job = explanation.job or self._job
        if explanation.verdict is not Verdict.DEAD:
            self._dead = None
        elif self._dead is None:
            self._dead = await self.engine.dead_job(self._job)
        return JobSeen(self._job, explanation, self.now(), self._dead, self._stack)

    def title_of(self, snapshot: JobSeen | None, width: int) -> Content:
        path = ["aiospinach", self.engine.namespace, self._job.queue, self._job.id]
        time = "" if snapshot is None else f"{snapshot.now:%H:%M:%S} UTC"
        return title_bar(path, Content.styled(time, MUTED), width)

    def draw(self, snapshot: JobSeen) -> None:
        self._page.update(job_page(snapshot))

    # What keys do.

    def job_in_hand(self) -> Job | None:
        return None if self.snapshot is None else self.snapshot.explanation.job

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something here: others are not shown."""
        if action == "stack":
            verdict = None if self.snapshot is None else self.snapshot.explanation.verdict
            return verdict in (Verdict.RUNNING, Verdict.CANCELLING)
        return super().check_action(action, parameters)

    def action_stack(self) -> None:
        """Ask the worker where the body of the job is."""
        self.carry_out(self._ask_for_stack())

    async def _ask_for_stack(self) -> str:
        explanation = await self.engine.explain(self._job, stack=True)
        self._stack = Stack(self.now(), explanation.stack)
        return "the worker was asked where the body of the job is"
