"""Calls in worker processes: order, and what a call that fails costs. Calls with a deadline."""

from __future__ import annotations

import threading
import time

import pytest

from gamma_nlp import GammaError, workers
from gamma_nlp.workers import NoAnswer, Worker, call_all, within


def test_answers_come_in_the_order_of_the_calls_whoever_is_first() -> None:
    calls = [["__import__('time').sleep(1) or 'slow'"], ["'quick'"], ["2 + 3"]]
    assert [a.value for a in call_all("builtins:eval", calls, jobs=2)] == ["slow", "quick", 5]


def test_more_workers_than_calls_and_no_calls_at_all() -> None:
    assert [a.value for a in call_all("math:sqrt", [(4,)], jobs=3)] == [2.0]
    assert list(call_all("math:sqrt", [])) == []


def test_call_that_hangs_raises_or_dies_costs_only_its_own_answer() -> None:
    worker = Worker("builtins:eval")
    try:
        # Both hold for any machine: a process never starts in a millisecond.
        assert worker.call(["1"], 0.001).problem == "took more than 0.001 s"
        assert worker.call(["1 / 0"], 120).problem == "ZeroDivisionError: division by zero"
        for code in (3, 0):
            died = worker.call([f"__import__('os')._exit({code})"], 120)
            assert died.problem == "its process died"
        assert worker.call(["1 + 1"], 120).value == 2
        hangs = "all(__import__('itertools').repeat(1))"  # in C, where no signal is looked at
        assert worker.call([hangs], 2).problem == "took more than 2 s"
        loud = worker.call(["print('no answer') or 5"], 120)
        assert (loud.value, loud.problem) == (5, "")
    finally:
        worker.stop()


def test_absent_package_is_told_from_other_problems() -> None:
    absent, wrong = call_all(
        "builtins:eval", [["__import__('no_such_package')"], ["[][0]"]], jobs=1
    )
    assert absent.missing and "no_such_package" in absent.problem
    assert wrong.problem and not wrong.missing


def test_a_file_that_a_call_lacks_is_named() -> None:
    (answer,) = call_all("builtins:open", [["no/such/file"]], jobs=1)
    assert answer.problem == "FileNotFoundError: No such file or directory: no/such/file"


def test_reader_that_stops_early_does_not_wait_for_calls_in_progress() -> None:
    answers = call_all("time:sleep", [(0,), (100,), (100,)], jobs=2, seconds=200)
    start = time.monotonic()
    assert next(answers).problem == ""
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 60


def test_worker_that_was_killed_before_its_first_call_ends_that_call_at_once() -> None:
    worker = Worker("time:sleep")
    worker.kill()
    start = time.monotonic()
    assert worker.call([100], 200).problem == "its process died"
    assert time.monotonic() - start < 60
    worker.stop()


def test_call_that_cannot_be_sent_raises_where_the_answers_are_read() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        list(call_all("math:sqrt", [(4,), (object(),), (9,)], jobs=2))


@pytest.mark.parametrize(
    ("options", "message"), [({"jobs": 0}, "--jobs must be"), ({"seconds": 0.0}, "--seconds must")]
)
def test_numbers_that_make_no_sense_are_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(GammaError, match=message):
        call_all("math:sqrt", [(4,)], **options)  # type: ignore[arg-type]


def test_default_is_two_workers_or_the_one_cpu_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, jobs in ((None, 1), (1, 1), (2, 2), (64, 2)):
        monkeypatch.setattr(workers.os, "cpu_count", lambda cpus=cpus: cpus)
        assert workers.default_jobs() == jobs


def test_a_call_within_its_time_returns_or_raises_as_ever() -> None:
    assert within(60, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0)


def test_a_call_that_hangs_is_given_up() -> None:
    release = threading.Event()
    with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
        within(0.05, lambda: release.wait(30))
    release.set()
