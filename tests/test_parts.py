"""Work in parts: every part is answered once, whatever the executor loses."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
from concurrent.futures import (
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    process,
)

import pytest
from support.crews import (
    Losing,
    OddError,
    die_elsewhere,
    die_once,
    double,
    fail,
    here,
    is_finding,
)

from jammi_files import parts
from jammi_files.errors import InvalidInputError
from jammi_files.parts import Workers, in_order

NUMBERS = list(range(20))
DOUBLES = [2 * number for number in NUMBERS]


def processes(workers=1):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def answers(executor, function, given, **also):
    with Workers(executor) as workers:
        return in_order(workers.run(function, given, **also), len(given), None)


def lost(error=None):
    """Return a fate: every call fails by an error of the executor, or is cancelled."""

    def fate(number, future):
        assert number < 10
        if error is None:
            assert future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_exception(error)
        return True

    return fate


def test_threads_do_it_where_there_is_no_executor():
    """Answers come in the order of their parts, and are counted one by one."""
    seen = []
    with Workers() as workers:
        given = workers.run(double, iter(NUMBERS))
        found = in_order(given, len(NUMBERS), lambda *at: seen.append(at))
    assert found == DOUBLES
    assert seen == [(number + 1, len(NUMBERS)) for number in NUMBERS]


@pytest.mark.parametrize("make", [lambda: ThreadPoolExecutor(3), lambda: processes(2)])
def test_any_executor(make):
    """Threads and processes answer alike, and the executor stays the caller's."""
    with make() as executor:
        assert answers(executor, double, NUMBERS) == DOUBLES
        assert executor.submit(double, 4).result() == 8


@pytest.mark.parametrize("given", ["pool", object(), ThreadPoolExecutor])
def test_what_is_no_executor(given):
    """Whatever else is given is refused by name, before anything is done."""
    with pytest.raises(InvalidInputError, match=r"must be a concurrent\.futures\.Executor"):
        Workers(given)


def test_a_client_has_an_executor():
    """Who gives Dask's client is told what to give instead."""

    class Client:
        def get_executor(self):
            raise AssertionError("not asked for")

    with pytest.raises(InvalidInputError, match=r"not a Client; give its get_executor\(\)"):
        Workers(Client())


@pytest.mark.parametrize(
    "error", [None, process.BrokenProcessPool("a process died"), CancelledError(), OSError("gone")]
)
def test_a_part_that_is_lost_each_time(error, caplog):
    """It is handed out a bounded number of times, then this process does it."""
    executor = Losing(lost(error))
    assert answers(executor, double, [7]) == [14]
    assert executor.calls == [7] * parts.ATTEMPTS
    assert [each.levelno for each in caplog.records] == [logging.WARNING]  # once, whatever is lost
    assert "lost with its worker" in caplog.text


def test_a_part_that_is_lost_once():
    """What is handed out again is answered there, and only what was lost is."""
    once = lost(OSError("gone"))
    executor = Losing(lambda number, future: number == 3 and once(number, future))
    assert answers(executor, double, NUMBERS) == DOUBLES
    assert sorted(executor.calls) == sorted([*NUMBERS, 2])


def test_an_executor_that_takes_nothing(caplog):
    """One that was shut down is not asked again: the rest is done here."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    assert answers(executor, double, NUMBERS) == DOUBLES
    assert caplog.text.count("takes no more parts") == 1


def test_processes_that_die(tmp_path):
    """A pool whose process was killed is broken for good; all parts are answered nevertheless."""
    given = [(str(tmp_path), number) for number in NUMBERS]
    for number in NUMBERS:
        if number != 6:  # only this one kills
            (tmp_path / str(number)).touch()
    with processes(2) as executor:
        assert answers(executor, die_once, given) == [number**2 for number in NUMBERS]


def test_a_part_that_kills_every_process():
    """It is done by this process, which is not killed by it."""
    with processes() as executor:
        assert answers(executor, die_elsewhere, [(os.getpid(), 5)]) == [25]


@pytest.mark.parametrize("make", [lambda: None, lambda: ThreadPoolExecutor(1), processes])
def test_an_error_of_a_part(make):
    """It is raised as this process meets it, even one that cannot be sent from a worker."""
    executor = make()
    with pytest.raises(OddError, match=r"^part 0$"):
        answers(executor, fail, [0])
    if executor is not None:
        assert executor.submit(double, 1).result() == 2  # nothing broke it
        executor.shutdown()


def test_a_part_that_fails_in_the_worker_only(caplog):
    """What a worker lacks and this process has is no error."""

    def function(number):
        if in_worker:
            raise OSError("no such bucket")
        return number

    def fate(_, future):
        in_worker.append(True)
        future.set_result(parts.attempt(function, 3))
        in_worker.clear()
        return True

    in_worker = []
    executor = Losing(fate)
    assert answers(executor, function, [3]) == [3]
    assert executor.calls == [3]
    assert "a part failed in a worker and is done here (OSError: no such bucket)" in caplog.text


def test_a_doubtful_answer():
    """What a worker says is wrong is looked at by this process, whose answer counts."""
    function = functools.partial(here, os.getpid())
    with processes() as executor:
        assert all(map(is_finding, answers(executor, function, NUMBERS)))
        assert answers(executor, function, NUMBERS, doubt=is_finding) == NUMBERS


def test_few_are_handed_out_at_a_time(monkeypatch):
    """Parts are drawn as others are answered."""
    monkeypatch.setattr(parts, "WINDOW", 3)
    drawn = []
    executor = Losing(lambda *_: False)
    with Workers(executor) as workers:
        given = workers.run(double, (drawn.append(number) or number for number in NUMBERS))
        assert next(given) == (0, 0)
        assert drawn == [0, 1, 2]
        assert [number for number, _ in given] == NUMBERS[1:]
    assert drawn == NUMBERS


def test_who_stops_listening_cancels():
    """Nothing is begun for a caller who has gone, and what was handed out is cancelled."""
    futures = []

    def fate(number, future):
        futures.append(future)
        return number > 1

    with Workers(Losing(fate)) as workers:
        given = workers.run(double, NUMBERS)
        assert next(given) == (0, 0)
        given.close()
    assert not futures[0].cancelled()
    assert all(future.cancelled() for future in futures[1:])


def test_progress_that_raises_cancels():
    """What was handed out is cancelled at once, though the traceback still holds everything."""
    futures = []

    def fate(number, future):
        futures.append(future)
        return number > 1

    def interrupt(done, total):
        assert (done, total) == (1, len(NUMBERS))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught, Workers(Losing(fate)) as workers:
        in_order(workers.run(double, NUMBERS), len(NUMBERS), interrupt)
    assert all(future.cancelled() for future in futures[1:])
    assert caught.traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_of_a_worker(error):
    """Ctrl-C reaches the processes of a pool too: it is no lost part."""
    executor = Losing(lost(error))
    with pytest.raises(type(error)):
        answers(executor, double, [1])
    assert executor.calls == [1]


def test_a_beat(monkeypatch):
    """A caller who wants to tell how far it is hears of it while nothing comes."""
    monkeypatch.setattr(parts, "BEAT", 0.001)
    held: list[Future] = []

    def fate(_, future):
        held.append(future)
        return True

    def on_beat():
        if not held[0].done():
            held[0].set_result((True, "late"))

    with Workers(Losing(fate)) as workers:
        assert list(workers.run(double, [1], on_beat=on_beat)) == [(0, "late")]
