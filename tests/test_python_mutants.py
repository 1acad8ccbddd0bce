"""Every guard in Python is needed: without it, a named test fails.

A guard is a line of the package that ends in ``# guard: name`` and protects a promise. Its mutant lacks it:

- ``if A:``, ``elif A:``, ``while A:``: ``A`` becomes ``False``;
- any other statement, which begins and ends on the line, becomes ``pass``.

Each mutant is a copy of the package with one guard less, and its test runs there in a process of its own.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The name of each guard, and a fast test below tests/ that fails without it; it is run again here.
TESTS: dict[str, str] = {
    "an answer for each channel": "redis/test_subscriptions.py::test_many_channels_take_few_commands",
    "another reader of a channel": (
        "brokers/test_contract_channels.py::test_another_subscription_keeps_a_channel_that_one_has_removed"
    ),
    "answered before": (
        "redis/test_idempotency.py::test_a_repeated_call_returns_the_same_answer_without_a_call"
    ),
    "arguments kept alive": (
        "workers/test_thread_pool.py::test_a_thread_keeps_no_reference_to_a_call_that_has_ended"
    ),
    "bodies that still settle": (
        "workers/test_stops_without_broker.py::"
        "test_a_job_in_a_thread_is_settled_after_an_outage_during_the_stop"
    ),
    "calls at the exit": (
        "test_blocking_processes.py::test_the_end_of_the_interpreter_waits_for_the_call_of_a_daemon_thread"
    ),
    "calls under way": "test_blocking.py::test_a_close_waits_for_the_calls_of_other_threads",
    "bounded mailbox": (
        "brokers/test_contract_channels.py::"
        "test_a_reader_that_does_not_read_keeps_a_bounded_number_of_messages"
    ),
    "closed loop in memory": (
        "brokers/test_memory_channels.py::test_a_message_to_a_closed_loop_drops_its_subscription"
    ),
    "late answer to a subscriber": (
        "redis/test_subscriptions.py::"
        "test_a_lost_connection_is_replaced_and_each_reader_learns_of_it_once[half-open]"
    ),
    "loss of messages": (
        "redis/test_subscriptions.py::"
        "test_a_lost_connection_is_replaced_and_each_reader_learns_of_it_once[cut]"
    ),
    "queue that came while it closed": (
        "redis/test_subscriptions.py::"
        "test_a_channel_that_is_added_while_the_connection_is_closed_gets_another"
    ),
    "silent connection": "redis/test_subscriptions.py::test_an_idle_connection_is_kept",
    "call that has not begun": (
        "workers/test_thread_pool.py::test_a_call_cancelled_before_it_begins_is_not_run"
    ),
    "result of an earlier job in memory": (
        "brokers/test_contract_results.py::test_the_result_of_an_earlier_job_is_not_that_of_a_later_one"
    ),
    "loss of the message of an end": (
        "results/test_waits.py::test_jobs_are_read_again_after_messages_may_have_been_lost"
    ),
    "message before its read": (
        "results/test_waits.py::test_a_message_that_comes_before_the_answer_of_the_read_is_not_lost"
    ),
    "silent loss of a message": "results/test_waits.py::test_a_lost_message_delays_a_result_a_little",
    "late subscription": "results/test_waits.py::test_a_job_is_read_again_once_it_is_subscribed_to",
    "waits that came as it ended": (
        "results/test_waits.py::test_a_wait_that_begins_while_the_subscription_ends_is_served"
    ),
    "rescue pause in memory": (
        "brokers/test_contract_leases.py::test_no_lease_is_recovered_at_once_after_a_time_without_ticks"
    ),
    "cancellation of its own": (
        "dependencies/test_lifespan.py::test_a_cancellation_that_entering_raises_is_an_error_of_the_start"
    ),
    "cancelled before it was lost": (
        "brokers/test_contract_leases.py::test_a_cancellation_survives_the_loss_of_the_worker"
    ),
    "cancelled on the way": (
        "redis/test_batching.py::test_a_shared_call_cancelled_after_sending_is_uncertain"
    ),
    "cancelled while it ran": (
        "brokers/test_contract_leases.py::test_a_job_cancelled_while_running_is_not_requeued"
    ),
    "connection of a parent": "redis/test_forks.py::test_a_child_does_not_read_the_answers_of_its_parent",
    "connections of others": (
        "test_engine_contexts.py::test_workers_outside_of_any_context_keep_their_connections"
    ),
    "crash of a worker in memory": (
        "brokers/test_contract_leases.py::test_each_lost_worker_counts_as_one_crash"
    ),
    "defect": "redis/test_errors.py::test_a_defect_is_raised_and_not_reported_as_an_unavailable_broker",
    "due without a wake-up": "workers/test_recovery.py::test_many_lost_jobs_are_all_found",
    "early end of a lease": (
        "workers/test_leases.py::test_a_body_on_a_late_lease_is_cancelled_before_another_worker_gets_the_job"
    ),
    "early renewal": "workers/test_leases.py::test_a_lease_that_arrived_late_is_renewed_at_once",
    "end of the rescue pause in memory": (
        "brokers/test_contract_leases.py::test_lost_jobs_are_recovered_even_if_ticks_are_far_apart"
    ),
    "ended before it is awaited": (
        "workers/test_returned_awaitables.py::"
        "test_the_awaitable_does_not_begin_if_the_job_was_cancelled_before"
    ),
    "ended while it was opened": (
        "dependencies/test_scopes.py::test_a_job_that_ends_in_the_last_step_of_opening_runs_no_body"
    ),
    "error kept alive": "workers/test_thread_pool.py::test_an_error_of_a_call_is_freed_when_its_handler_ends",
    "fence in memory": (
        "brokers/test_contract_exchange.py::test_only_the_lost_leases_of_an_exchange_are_fenced"
    ),
    "field of others": "redis/test_idempotency.py::test_a_field_written_by_others_is_not_used",
    "successor in memory": (
        "brokers/test_contract_exchange.py::test_a_successor_is_queued_when_the_job_ends"
    ),
    "place of a cancelled job in memory": (
        "brokers/test_contract_enqueue.py::test_the_id_of_a_job_cancelled_in_the_queue_is_free"
    ),
    "hidden end": (
        "surroundings/test_around.py::test_one_that_hides_the_end_of_a_job_makes_it_no_success_before_its_body"
    ),
    "hidden error": ("dependencies/test_scopes.py::test_a_scope_may_replace_the_error_and_cannot_hide_it"),
    "interrupted call": "test_blocking.py::test_an_interrupted_call_ends_and_is_cancelled",
    "late answer": (
        "workers/test_leases.py::test_no_job_begins_on_a_lease_that_ended_before_the_answer_arrived"
    ),
    "longer pause in memory": "brokers/test_contract_pauses.py::test_a_job_does_not_shorten_a_pause",
    "nothing of a paused queue in memory": (
        "brokers/test_contract_pauses.py::test_paused_jobs_wake_no_worker"
    ),
    "paused queue in memory": (
        "brokers/test_contract_pauses.py::test_a_paused_queue_keeps_the_order_of_all_its_tasks"
    ),
    "paused tick in memory": "brokers/test_contract_pauses.py::test_ticks_of_a_paused_task_are_skipped",
    "tick before in memory": (
        "brokers/test_contract_periodic.py::test_a_tick_is_skipped_while_the_job_of_the_previous_one_is_live"
    ),
    "unknown task in memory": (
        "brokers/test_contract_parking.py::test_all_jobs_of_an_unknown_task_are_parked_in_one_exchange"
    ),
    "left behind": (
        "redis/test_deadlines.py::test_a_timed_out_entry_is_not_sent_with_those_of_other_callers"
    ),
    "limits registered before": (
        "redis/test_limits.py::test_another_registration_also_restores_limits_lost_meanwhile"
    ),
    "live id": "brokers/test_contract_enqueue.py::test_an_id_is_stored_once_within_one_batch",
    "look before sleep": (
        "workers/test_thread_pool.py::test_a_call_made_while_the_only_thread_becomes_idle_is_run"
    ),
    "lost registration": ("redis/test_limits.py::test_a_limit_missing_on_a_new_master_is_registered_again"),
    "may have arrived": (
        "redis/test_deadlines.py::test_a_caller_times_out_while_the_round_trip_that_it_shares_is_under_way"
    ),
    "never began": (
        "workers/test_leases.py::test_a_stop_releases_an_at_most_once_job_whose_body_has_not_begun"
    ),
    "nudge": ("workers/test_queues.py::test_a_wait_is_extended_to_all_queues_when_a_slot_becomes_free"),
    "renewal under way": (
        "workers/test_free_slots.py::test_a_lease_received_during_a_renewal_is_renewed_after_it"
    ),
    "slots that an exchange left": (
        "workers/test_free_slots.py::test_slots_left_by_an_exchange_go_to_an_earlier_queue_woken_meanwhile"
    ),
    "wake of a queue that is away": (
        "workers/test_free_slots.py::test_a_queue_that_is_away_takes_no_turn_when_woken"
    ),
    "remembered id": (
        "brokers/test_contract_enqueue.py::test_an_id_given_by_a_user_is_remembered_after_the_job_has_ended"
    ),
    "something left": (
        "redis/test_bounded_calls.py::test_an_earlier_queue_comes_first_for_any_number_of_slots"
    ),
    "suspected lease": (
        "workers/test_leases.py::test_an_async_body_on_a_suspected_lease_is_released_without_a_crash"
    ),
    "task limit": "brokers/test_contract_limits.py::test_jobs_of_a_task_are_leased_up_to_its_limit",
    "tick fired before": (
        "brokers/test_contract_periodic.py::test_only_one_of_several_concurrent_callers_fires_a_tick"
    ),
    "tick of another calendar": (
        "workers/test_periodic.py::test_a_tick_of_the_previous_calendar_of_a_task_is_not_fired"
    ),
    "time for an answer": ("redis/test_connection.py::test_the_timeout_of_an_answer_begins_after_connecting"),
    "time of a caller": (
        "redis/test_deadlines.py::test_a_caller_times_out_while_it_waits_for_an_earlier_round_trip"
    ),
    "trust before the body": (
        "workers/test_leases.py::test_no_body_begins_if_the_lease_ended_during_the_receivers"
    ),
    "uncertain": (
        "redis/test_lost_answers.py::test_an_unanswered_schedule_is_uncertain_and_its_retry_stores_the_job_once"
    ),
    "unused field": "redis/test_idempotency.py::test_a_refused_call_keeps_no_field",
    "wakes the next thread": "workers/test_thread_pool.py::test_a_woken_thread_wakes_the_next",
    "watch forks": ("redis/test_forks.py::test_a_child_does_not_inherit_workers_or_jobs_in_memory"),
    "work without a wake-up": (
        "redis/test_many_queues.py::test_an_idle_worker_finds_work_within_a_period_if_the_wake_up_is_lost"
    ),
    "access to the events of a job": "contrib/test_job_events.py::test_who_may_not_see_it_learns_nothing",
    "bounded feed": "test_events.py::test_a_slow_reader_reads_from_the_store_and_keeps_no_events",
    "dropped rows in memory": (
        "brokers/test_contract_events.py::test_a_place_behind_which_rows_were_dropped_is_lost"
    ),
    "feed that is behind": "test_events.py::test_a_store_without_its_events_is_a_loss",
    "forgotten stream": "test_events.py::test_a_stream_that_is_forgotten_ends_its_reading",
    "four reports a second": "workers/test_progress.py::test_a_million_steps_are_few_reports",
    "one report for many steps": "workers/test_progress.py::test_the_jobs_of_a_queue_share_a_report",
    "progress of an ended lease in memory": (
        "brokers/test_contract_events.py::test_the_progress_of_ended_leases_is_not_kept_in_memory"
    ),
    "progress of another job": (
        "workers/test_progress.py::test_a_job_within_a_job_has_no_progress_of_the_outer"
    ),
    "rows that a feed dropped": "test_events.py::test_readers_share_a_wait_and_reads",
}

_GUARD = re.compile(r"^(?P<code>.*\S) +# guard: (?P<name>.+)$", re.MULTILINE)
_CONDITION = re.compile(r"( *(?:if|elif|while)) .*:")
GUARDS: list[tuple[str, Path, int]] = [
    (found["name"], path.relative_to(ROOT), text.count("\n", 0, found.start()))
    for path in sorted((ROOT / "aiospinach").rglob("*.py"))
    for text in [path.read_text("utf-8")]
    for found in _GUARD.finditer(text)
]


def neutralised(line: str) -> str:
    """The line with its guard disabled."""
    code = line.partition("# guard:")[0].rstrip()
    if found := _CONDITION.fullmatch(code):
        return f"{found[1]} False:"
    indent = code[: len(code) - len(code.lstrip())]
    [statement] = ast.parse(code.lstrip()).body  # a guard is a whole statement on one line
    assert statement.lineno == statement.end_lineno
    return f"{indent}pass"


def mutate(path: Path, number: int) -> None:
    """Disable the guard on one line of a file; lines count from 0."""
    lines = path.read_text("utf-8").split("\n")
    lines[number] = neutralised(lines[number])
    path.write_text("\n".join(lines), "utf-8")


Run = Callable[[Path, str], str]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs one test on the copy of the package in a folder, and returns its result."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with subprocess.Popen(
        [sys.executable, "-P", str(ROOT / "tests" / "zygote.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as zygote:
        requests, answers = zygote.stdin, zygote.stdout
        assert requests is not None
        assert answers is not None

        def ask(folder: Path, test: str) -> str:
            print(folder, test, sep="\t", file=requests, flush=True)
            return answers.readline().strip()

        yield ask
        requests.close()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its tests, to be mutated."""
    for name in ("aiospinach", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_guard_has_a_unique_name_and_a_test() -> None:
    assert sorted(name for name, _, _ in GUARDS) == sorted(TESTS)


@pytest.mark.parametrize(("name", "path", "number"), GUARDS, ids=[name for name, _, _ in GUARDS])
def test_the_test_of_a_guard_fails_without_it(
    copy: Path, run: Run, name: str, path: Path, number: int
) -> None:
    mutate(copy / path, number)
    assert_runs(run, copy, TESTS[name], "failed")


def test_a_test_on_the_unchanged_package_passes(copy: Path, run: Run) -> None:
    assert_runs(run, copy, "test_smoke.py", "passed")


def assert_runs(run: Run, copy: Path, test: str, how: str) -> None:
    ended = run(copy, test)
    output = (copy / "output").read_text("utf-8", "replace")
    assert ended == how, output
    # The test must have imported the mutant, not the installed package.
    assert output.startswith(f"{copy / 'aiospinach' / '__init__.py'}\n"), output


@pytest.mark.parametrize(
    ("line", "mutant"),
    [
        ("    if a and b():  # guard: x", "    if False:"),
        ("elif a:  # guard: x", "elif False:"),
        ("        while a:  # guard: x", "        while False:"),
        ("    del a[b]  # guard: x", "    pass"),
        ("    return  # guard: x", "    pass"),
        ("    call(a,  # guard: x", None),
        ("    else:  # guard: x", None),
        ("    for a in b:  # guard: x", None),
    ],
)
def test_a_guard_must_have_a_supported_form(line: str, mutant: str | None) -> None:
    if mutant is None:
        with pytest.raises(SyntaxError):
            neutralised(line)
    else:
        assert neutralised(line) == mutant
