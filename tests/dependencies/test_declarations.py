"""Declarations that no job could fill in are refused when the task is declared, and the error names them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import fastapi
import pytest
from uncalled_for import CallArgument
from uncalled_for import Depends as DependsOfUncalledFor

from aiospinach import (
    AiospinachError,
    Depends,
    InvalidValue,
    Job,
    Provided,
    Shared,
    Tasks,
    UnsupportedType,
)

if TYPE_CHECKING:
    import somewhere  # type: ignore[import-not-found]


def value() -> str:
    return "value"


def first(other: str = Depends(lambda: second())) -> str:
    return other


def second() -> str:
    return ""


def ping(other: str = Provided) -> str: ...  # type: ignore[empty-body]


def pong(other: str = Depends(ping)) -> str:
    return other


ping.__defaults__ = (Depends(pong),)


def needs_number(number: int) -> int:
    return number


def needs_job(job: Job) -> Job:
    return job


def by_place(number: str = Depends(value), /) -> str:
    return number


async def call() -> None: ...


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self) -> None: ...


def taking(default: Any, hint: Any = Any) -> Callable[..., None]:
    def take(db: Any = default) -> None: ...

    take.__annotations__["db"] = hint
    return take


def positional(db: Annotated[str, Depends(value)], /) -> None: ...


def variadic(*db: Annotated[str, Depends(value)]) -> None: ...


def twice(db: Annotated[str, Depends(value), Depends(value)]) -> None: ...


def both(db: Annotated[str, Depends(value)] = Depends(value)) -> None: ...


def provided(db: str = Provided) -> None: ...


def defined_below(db: Annotated[str, Depends(below)] = Provided) -> None: ...


def below() -> str:
    return ""


undefined: Any = taking(Provided, "Annotated[str, Depends(nowhere)]")
for_type_checkers_only: Any = taking(Provided, "Nothing[str, Depends(value)]")
unreadable: Any = taking(Provided, "1 +")
anything: Any = 3

REFUSED: dict[str, tuple[Any, type[AiospinachError], str]] = {
    "not_callable": (taking(Depends(anything)), InvalidValue, "depends on a factory, .* not int: pass the"),
    "unhashable": (taking(Depends(Unhashable())), InvalidValue, "has no hash: wrap it in a function"),
    "a_circle": (taking(Depends(ping)), InvalidValue, "depends on itself: ping needs pong needs ping"),
    "a_number": (
        taking(Depends(needs_number)),
        UnsupportedType,
        r"needs_number\(\): parameter 'number' has no default.*: give it a default, or Depends",
    ),
    "a_nested_number": (
        taking(Depends(lambda n=Depends(needs_number): n)),
        UnsupportedType,
        r"needs_number\(\): parameter 'number' has no default",
    ),
    "a_job": (taking(Depends(needs_job)), UnsupportedType, r"call current_job\(\) in the factory"),
    "a_factory_by_place": (taking(Depends(by_place)), InvalidValue, "'number' declares .* passed by name"),
    "positional": (positional, InvalidValue, "'db' declares a dependency, .* passed by name: .*without '/'"),
    "variadic": (variadic, InvalidValue, "'db' declares a dependency, whose value is passed by name"),
    "twice": (twice, InvalidValue, "'db' declares 2 dependencies, and gets one value: keep one"),
    "both": (both, InvalidValue, "'db' declares 2 dependencies"),
    "provided": (provided, InvalidValue, "'db' has the default Provided.*annotate it as Annotated"),
    "undefined": (undefined, InvalidValue, "'db' depends on 'nowhere', which is not defined .*: define it"),
    "unknown_name": (for_type_checkers_only, InvalidValue, "'db' has the default Provided"),
    "unreadable": (unreadable, InvalidValue, "'db' has the default Provided"),
    "call_argument": (taking(CallArgument("x")), InvalidValue, "the kind _CallArgument, .*: use Depends or"),
    "bindings": (taking(DependsOfUncalledFor(value, x=1)), InvalidValue, "bind them with functools.partial"),
    "no_signature": (taking(Depends(type)), UnsupportedType, "does not know the parameters"),
}


@pytest.mark.parametrize(("function", "error", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("shared", [False, True], ids=["depends", "shared"])
def test_a_declaration_that_no_job_can_fill_in_is_refused(
    function: Any, error: type[AiospinachError], message: str, shared: bool
) -> None:
    if shared:
        default: Any = inspect.signature(function).parameters["db"].default
        kind: Any = type(Depends(value))
        if type(default) is not kind or function is both:
            pytest.skip("it is no Depends that could be Shared")
        function = taking(Shared(default.factory))
        if message.startswith("bind"):
            pytest.skip("Shared takes no arguments")
    tasks = Tasks()
    with pytest.raises(error, match=message) as raised:
        tasks.task(name="bill")(function)
    assert type(raised.value) is error
    assert len(tasks) == 0


def test_a_coroutine_in_the_place_of_its_function_is_closed() -> None:
    wrong: Any = call()
    with pytest.raises(InvalidValue, match=r"bill\(\): parameter 'db' depends on a factory.* not coroutine"):
        Tasks().task(name="bill")(taking(Depends(wrong)))


def test_a_task_without_dependencies_has_no_injection() -> None:
    @Tasks().task
    def work(number: int, db: str = "", *rest: int, **named: int) -> None: ...

    assert work._injection is None


def test_a_factory_below_the_function_is_found_if_its_name_is_known_by_then() -> None:
    task = Tasks().task(defined_below)
    assert task._injection is not None
    assert task._injection.names == {"db"}


def test_hints_of_injected_parameters_may_be_anything() -> None:
    @Tasks().task
    def work(
        number: int,
        session: Annotated[somewhere.Session[str] | None, Depends(value)] = Provided,
        iterator: Annotated[Iterator[object], Depends(value)] = Provided,
    ) -> None: ...

    assert work._injection is not None
    assert work._injection.names == {"session", "iterator"}
    assert work._arguments.encode((1,), {}) == b"[[1],{}]"


async def secured(db: Annotated[str, fastapi.Security(value)]) -> None: ...


def test_a_security_of_fastapi_is_refused() -> None:
    with pytest.raises(InvalidValue, match="'db' declares a dependency of the kind Security"):
        Tasks().task(secured)


def wants_request(request: fastapi.Request) -> None: ...
def wants_optional_request(request: fastapi.Request = None) -> None: ...  # type: ignore[assignment]
def wants_tasks(tasks: fastapi.BackgroundTasks) -> None: ...
def wants_header(token: Annotated[str, fastapi.Header()] = "") -> None: ...
def wants_query(page: int = fastapi.Query(1)) -> None: ...
def wants_parameter(page: int) -> None: ...
def wants_all(nested: Annotated[None, fastapi.Depends(wants_header)]) -> None: ...


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        (wants_request, r"wants_request\(\): parameter 'request' is a part of a request"),
        (wants_optional_request, r"wants_optional_request\(\): parameter 'request' is a part of a request"),
        (wants_tasks, r"wants_tasks\(\): parameter 'tasks' is a part of a request"),
        (wants_header, r"wants_header\(\): parameter 'token' is a part of a request"),
        (wants_query, r"wants_query\(\): parameter 'page' is a part of a request"),
        (wants_parameter, r"wants_parameter\(\): parameter 'page' has no default"),
        (wants_all, r"wants_header\(\): parameter 'token' is a part of a request"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("declare", [Depends, Shared, fastapi.Depends])
def test_a_factory_that_wants_a_part_of_a_request_is_refused(
    factory: Any, names: str, declare: Callable[[Any], Any]
) -> None:
    with pytest.raises(UnsupportedType, match=names):
        Tasks().task(name="bill")(taking(declare(factory)))


def test_a_limit_of_concurrent_requests_is_refused() -> None:
    if "max_concurrency" not in inspect.signature(fastapi.Depends).parameters:
        pytest.skip("this FastAPI has no such limit")
    limited: Any = fastapi.Depends
    with pytest.raises(InvalidValue, match=r"Depends\(max_concurrency=\), which counts requests"):
        Tasks().task(name="bill")(taking(limited(value, max_concurrency=3)))
