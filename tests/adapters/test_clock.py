import random
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from pilotfish.adapters.clock import ServerClock

HOUR = 3600.0
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Machines:
    """An API server and a replica whose wall clock is off; the server's time is the truth."""

    def __init__(self, *, skew=0.0, seed=0):
        self.rng = random.Random(seed)
        self.truth = START + self.rng.random()
        self.skew = skew
        self.clock = ServerClock(wall=lambda: self.truth + self.skew, monotonic=lambda: self.truth - START + 77)

    def request(self, *, there=0.0, back=0.0, ahead=0.0):
        """One request on a way that takes so long; the server that answers is so far ahead."""
        sent = self.clock.monotonic()
        self.truth += there
        date = format_datetime(datetime.fromtimestamp(int(self.truth + ahead), tz=UTC), usegmt=True)
        self.truth += back
        self.clock.hear(date, sent=sent)

    def off(self):
        return self.clock.now().timestamp() - self.truth


@pytest.mark.parametrize("skew", [-HOUR, 0, HOUR])
@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_servers_time_within_a_second_whatever_the_machine_says(skew, seed):
    machines = Machines(skew=skew, seed=seed)
    assert machines.off() == pytest.approx(skew, abs=1e-3), "before the first answer there is only the machine's clock"
    for _ in range(200):
        machines.request(there=machines.rng.expovariate(50), back=machines.rng.expovariate(50))
        assert abs(machines.off()) < 1
        machines.truth += machines.rng.expovariate(1)
    assert abs(machines.off()) < 0.1, "many answers say more than one"


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_jump_of_the_machines_clock_is_not_even_noticed(jump):
    machines = Machines()
    machines.request()
    machines.skew = jump
    assert abs(machines.off()) < 1
    machines.truth += HOUR
    assert abs(machines.off()) < 1, "an hour without an answer"


@pytest.mark.parametrize("jump", [-HOUR, -1.5, 1.5, HOUR])
def test_a_server_whose_clock_was_set_is_believed(jump):
    machines = Machines()
    for _ in range(50):
        machines.request(there=0.01, back=0.01)
        machines.truth += 0.37
    machines.request(ahead=jump)
    machines.truth += 5  # small corrections are waited for
    assert machines.off() == pytest.approx(jump, abs=1)


def test_small_corrections_never_turn_it_back():
    machines, last = Machines(), 0.0
    for number in range(400):
        machines.request(there=0.01, back=0.01, ahead=machines.rng.choice([0, 0, 2]) if number % 7 == 0 else 0)
        machines.truth += machines.rng.expovariate(5)
        now = machines.clock.now().timestamp()
        assert now >= last
        last = now


@pytest.mark.parametrize("date", [None, "", "soon", "Sun, 99 Nov 2026 20:50:00 GMT"])
def test_nonsense_is_passed_over(date):
    machines = Machines(skew=5.0)
    machines.clock.hear(date, sent=0.0)
    assert machines.off() == pytest.approx(5.0, abs=1e-3)
