"""Views of Flask and Django that are plain functions schedule through ``engine.blocking``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from flask import Flask
from werkzeug.serving import make_server

from aiospinach import Engine

from ..asking import counts
from ..brokers_under_test import BROKERS, MakeBroker, shared_server
from . import ROOT

THREADS, REQUESTS = 8, 10


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> Engine:
    make_broker: MakeBroker = request.param
    engine = Engine(make_broker(), namespace)

    @engine.task(name="welcome")
    async def welcome(name: str) -> None: ...

    return engine


@pytest.fixture
def serve(engine: Engine) -> Iterator[str]:
    """The URL of a Flask application that a server with a thread for each request serves."""
    app = Flask("shop")

    @app.post("/welcome/<name>")
    def sign_up(name: str) -> dict[str, str]:
        return {"job": engine.blocking.schedule("welcome", name).id}

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def stored(engine: Engine) -> int:
    async with engine:
        return (await counts(engine._broker, "default")).ready


def in_threads(post: Callable[[str], str]) -> set[str]:
    with ThreadPoolExecutor(THREADS) as pool:
        return set(pool.map(post, map(str, range(THREADS * REQUESTS))))


async def test_views_of_flask_schedule_one_job_for_each_request(engine: Engine, serve: str) -> None:
    def post(name: str) -> str:
        answer = httpx.post(f"{serve}/welcome/{name}", trust_env=False)
        assert answer.status_code == 200
        job: str = answer.json()["job"]
        return job

    assert len(await asyncio.to_thread(in_threads, post)) == THREADS * REQUESTS
    assert await stored(engine) == THREADS * REQUESTS
    await asyncio.to_thread(engine.blocking.close)


# Django has one set of settings for a process, so each test of it has a process of its own.

DJANGO = """
import asyncio, logging, sys
from concurrent.futures import ThreadPoolExecutor
import django
from django.conf import settings
from django.http import JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from aiospinach import Engine, MemoryBroker, RedisBroker, WouldBlock

url, namespace = sys.argv[1:]
logging.disable()
engine = Engine(MemoryBroker() if url == "memory" else RedisBroker(url), namespace)
ran = set()

@engine.task
async def welcome(name: str) -> None:
    ran.add(name)

def sign_up(request, name):
    return JsonResponse({"job": engine.blocking.schedule(welcome, name).id})

async def careless(request, name):
    return sign_up(request, name)

urlpatterns = [path("welcome/<name>", sign_up), path("careless/<name>", careless)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
django.setup()

def post(number: int) -> str:
    return Client().post(f"/welcome/{number}").json()["job"]

async def post_with_asgi() -> str:
    try:
        await AsyncClient().post("/careless/ann")
    except WouldBlock as error:
        assert "await engine.schedule(...)" in str(error)
    else:
        raise AssertionError("a view in an event loop was not refused")
    return (await AsyncClient().post("/welcome/ann")).json()["job"]

with ThreadPoolExecutor(8) as pool:
    jobs = set(pool.map(post, range(80)))
jobs.add(asyncio.run(post_with_asgi()))
asyncio.run(engine.start_workers(10, stop_when_queue_empty=True))
assert len(jobs) == 81, len(jobs)
assert ran == {"ann", *map(str, range(80))}, ran
"""


@pytest.mark.parametrize("broker", ["memory", "redis"])
def test_plain_views_of_django_schedule_with_wsgi_and_asgi_and_async_ones_are_refused(
    broker: str, namespace: str
) -> None:
    url = "memory" if broker == "memory" else shared_server().url
    options = ["-W", "error::ResourceWarning", "-c", DJANGO, url, namespace]
    done = subprocess.run([sys.executable, *options], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.stderr, done.returncode) == ("", 0)
