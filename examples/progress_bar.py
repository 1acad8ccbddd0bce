"""Follow a job from another part of the program: its events, and how far it has come.

    python examples/progress_bar.py

prints the events of a job that counts to a thousand: ``job_scheduled``, ``job_started``, some lines of
progress such as ``[#####     ] 500 of 1000 rows``, and ``job_finished``.
"""

import asyncio

from aiospinach import Engine, Event, MemoryBroker, progress

engine = Engine(MemoryBroker(events=1000), namespace="imports")


@engine.task
async def load(rows: int) -> None:
    for row in range(rows):
        progress(row + 1, rows, "rows")
        await asyncio.sleep(0.001)


def line(event: Event) -> str:
    if event.name != "job_progress":
        return event.name
    current, total, note = (event.data[name] for name in ("current", "total", "note"))
    bar = "#" * (10 * current // total)
    return f"[{bar:10}] {current} of {total} {note}"


async def main() -> None:
    async with engine, engine.events(task=load) as events:
        await load.schedule(1000)
        await engine.start_workers(block=False)
        async for event in events:
            print(line(event))
            if event.name == "job_finished":
                return


if __name__ == "__main__":
    asyncio.run(main())
