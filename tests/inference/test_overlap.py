"""Reading ahead and writing behind."""

import threading

import pytest

from epl_d2.inference.overlap import WriteBehind, read_ahead


def test_items_come_in_order_and_at_most_depth_ahead():
    made = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    received = []
    for item in read_ahead(items(), depth=3):
        received.append(item)
        assert len(made) <= len(received) + 3
    assert received == list(range(20))


def test_reading_goes_on_while_the_caller_works():
    second_read = threading.Event()

    def items():
        yield 1
        second_read.set()
        yield 2

    iterator = read_ahead(items(), depth=2)
    assert next(iterator) == 1
    assert second_read.wait(10)  # nobody asked for it yet
    assert list(iterator) == [2]


def test_an_error_of_the_iterator_is_raised_in_its_place():
    def items():
        yield 1
        raise ValueError("broken")

    iterator = read_ahead(items())
    assert next(iterator) == 1
    with pytest.raises(ValueError, match="broken"):
        next(iterator)


def test_writes_are_done_in_order_in_another_thread():
    written, threads = [], set()

    def write(number):
        written.append(number)
        threads.add(threading.get_ident())

    with WriteBehind(depth=2) as writer:
        for number in range(10):
            writer.submit(write, number)
    assert written == list(range(10))
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_submit_waits_when_too_many_are_pending():
    release, submitted = threading.Event(), []

    def caller():
        with WriteBehind(depth=2) as writer:
            for number in range(4):
                writer.submit(release.wait, 30)
                submitted.append(number)

    thread = threading.Thread(target=caller)
    thread.start()
    thread.join(0.5)
    assert submitted == [0, 1]
    release.set()
    thread.join(30)
    assert submitted == [0, 1, 2, 3]


def test_an_error_of_a_write_reaches_the_caller():
    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), WriteBehind() as writer:
        writer.submit(fail)


def test_the_callers_own_error_is_not_hidden_by_one_of_a_write():
    def fail():
        raise OSError("disk full")

    with pytest.raises(KeyError, match="mine"), WriteBehind() as writer:
        writer.submit(fail)
        raise KeyError("mine")
