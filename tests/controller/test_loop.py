import asyncio
import itertools
import random

import pytest

from pilotfish.controller.loop import LONGEST_DELAY, PASS_LIMIT, KeyedQueue, Outcome, Result, Workers
from support.virtual_time import run_in_virtual_time

SUCCESS = Outcome(result=Result.SUCCESS)


def now() -> float:
    return asyncio.get_running_loop().time()


async def run_passes(reconcile, *, keys, seconds, count=2):
    """Feed the keys to workers for some virtual seconds."""
    queue = KeyedQueue()
    workers = asyncio.create_task(Workers(queue=queue, reconcile=lambda key: reconcile(queue, key), count=count).run())
    for key in keys:
        queue.put(key)
    await asyncio.sleep(seconds)
    queue.close()
    await workers
    return queue


def test_a_key_that_waits_waits_once():
    async def story():
        seen = []

        async def reconcile(_queue, key):
            seen.append(key)
            return SUCCESS

        await run_passes(reconcile, keys=["a", "b", "a", "a"], seconds=1)
        return seen

    assert run_in_virtual_time(story()) == ["a", "b"]


def test_a_wake_up_during_a_pass_brings_exactly_one_more_pass_and_never_two_at_once():
    async def story():
        spans = []

        async def reconcile(queue, key):
            start = now()
            if not spans:
                queue.put(key)
                queue.put(key)
            spans.append(start)
            await asyncio.sleep(5)
            return SUCCESS

        await run_passes(reconcile, keys=["a"], seconds=60, count=4)
        return [start - spans[0] for start in spans]

    assert run_in_virtual_time(story()) == [0, 5]


def test_requeue_after_comes_back_then_and_an_earlier_event_takes_its_place():
    async def story():
        times = []

        async def reconcile(queue, key):
            times.append(now())
            if len(times) == 1:
                asyncio.get_running_loop().call_later(10, queue.put, key)
                return Outcome(result=Result.REQUEUE_AFTER, after=30)
            return Outcome(result=Result.REQUEUE_AFTER, after=100) if len(times) == 2 else SUCCESS

        await run_passes(reconcile, keys=["a"], seconds=1000)
        return [round(time - times[0], 6) for time in times]

    # 10: the event; it supersedes the timer at 30. 110: the second pass's own wish.
    assert run_in_virtual_time(story()) == [0, 10, 110]


def test_of_several_wishes_the_earliest_counts():
    async def story():
        queue = KeyedQueue()
        start = now()
        queue.put_after("a", 50)
        queue.put_after("a", 5)
        queue.put_after("a", 500)
        await queue.get()
        return now() - start

    assert run_in_virtual_time(story()) == pytest.approx(5)


def test_failures_back_off_to_the_cap_and_success_forgets_them():
    async def story():
        times = []

        async def reconcile(_queue, _key):
            times.append(now())
            if len(times) == 12:
                return Outcome(result=Result.REQUEUE_AFTER, after=1)
            return Outcome(result=Result.ERROR) if len(times) < 14 else SUCCESS

        await run_passes(reconcile, keys=["a"], seconds=3600)
        return [round(b - a, 6) for a, b in itertools.pairwise(times)]

    gaps = run_in_virtual_time(story())
    assert gaps[:8] == [0.5, 1, 2, 4, 8, 16, 32, LONGEST_DELAY]
    assert gaps[10] == LONGEST_DELAY
    assert gaps[11:] == [1, 0.5]


def test_the_server_s_wish_to_wait_is_kept_when_it_is_longer():
    async def story():
        times = []

        async def reconcile(_queue, _key):
            times.append(now())
            return Outcome(result=Result.ERROR, after=42) if len(times) == 1 else SUCCESS

        await run_passes(reconcile, keys=["a"], seconds=100)
        return times[1] - times[0]

    assert run_in_virtual_time(story()) == pytest.approx(42)


def test_the_first_conflict_is_tried_at_once_and_a_row_of_them_backs_off():
    async def story():
        times = []

        async def reconcile(_queue, _key):
            times.append(now())
            return Outcome(result=Result.REQUEUE) if len(times) < 4 else SUCCESS

        await run_passes(reconcile, keys=["a"], seconds=100)
        return [round(b - a, 6) for a, b in itertools.pairwise(times)]

    assert run_in_virtual_time(story()) == [0, 1, 2]


def test_an_unexpected_error_harms_one_key_only():
    async def story():
        seen = []

        async def reconcile(_queue, key):
            seen.append(key)
            if key == "bad":
                raise RuntimeError("boom")
            return SUCCESS

        await run_passes(reconcile, keys=["bad", "good"], seconds=1.2, count=1)
        return seen

    assert run_in_virtual_time(story()) == ["bad", "good", "bad"]


def test_a_pass_that_hangs_is_given_up_and_tried_again():
    async def story():
        times = []

        async def reconcile(_queue, _key):
            times.append(now())
            if len(times) == 1:
                await asyncio.sleep(10 * PASS_LIMIT)
            return SUCCESS

        await run_passes(reconcile, keys=["a"], seconds=2 * PASS_LIMIT, count=1)
        return times[1] - times[0]

    assert run_in_virtual_time(story()) == pytest.approx(PASS_LIMIT + 0.5)


def test_closing_lets_running_passes_end_and_starts_no_other():
    async def story():
        ended = []

        async def reconcile(_queue, key):
            await asyncio.sleep(5)
            ended.append(key)
            return SUCCESS

        await run_passes(reconcile, keys=["a", "b", "c"], seconds=1, count=2)
        return ended

    assert run_in_virtual_time(story()) == ["a", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_no_wake_up_is_lost_whatever_the_order(seed):
    """Every change is followed by a pass that began after it, and no key runs twice at once."""

    async def story():
        rng = random.Random(seed)
        changed = dict.fromkeys("abcde", 0.0)
        began = dict.fromkeys("abcde", -1.0)
        running = set()

        async def reconcile(_queue, key):
            assert key not in running
            running.add(key)
            began[key] = now()
            await asyncio.sleep(rng.choice([0, 0.001, 0.3, 7]))
            running.discard(key)
            kind = rng.choice(list(Result))
            return Outcome(result=kind, after=rng.random() * 20)

        queue = KeyedQueue()
        workers = asyncio.create_task(Workers(queue=queue, reconcile=lambda k: reconcile(queue, k), count=3).run())
        for _ in range(300):
            key = rng.choice("abcde")
            changed[key] = now()
            queue.put(key)
            await asyncio.sleep(rng.choice([0, 0, 0.001, 0.2, 3]))
        await asyncio.sleep(1000)
        assert all(began[key] >= changed[key] for key in changed)
        queue.close()
        await workers

    run_in_virtual_time(story())
