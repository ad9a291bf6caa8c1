"""Random walks through the small world until so many states were checked: `make soak`, or `hack/soak.py --states N`.

Prints each violation with the seed that repeats it (`PILOTFISH_SEED=<seed> pytest tests/simulation/test_chance.py`) and
ends with 1 if there was any.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
from collections.abc import Iterator
from multiprocessing.pool import Pool

from support.walks import Walk

_STATES = 100_000
_AT_ONCE = 2
_BATCH = 20


def walk(seed: int) -> tuple[int, int, str | None]:
    """The seed, the states that were checked, and what did not hold."""
    one = Walk(seed)
    try:
        one.run()
    except Exception as error:  # noqa: BLE001 - whatever ends a walk is a finding
        return seed, one.checked, f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]
    return seed, one.checked, None


def walks_from(pool: Pool, first: int) -> Iterator[tuple[int, int, str | None]]:
    """All walks from that seed on, a few at a time: a pool takes whatever it is given at once."""
    for seed in itertools.count(first, _BATCH):
        yield from pool.imap(walk, range(seed, seed + _BATCH))


def main() -> int:
    """Walk until enough states were seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=_STATES, help="states to check at least")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("PILOTFISH_SEED", "0")), help="the first seed")
    asked = parser.parse_args()
    checked = walks = violations = 0
    with multiprocessing.Pool(_AT_ONCE) as pool:
        for seed, states, broken in walks_from(pool, asked.seed):
            checked, walks = checked + states, walks + 1
            if broken is not None:
                violations += 1
                print(f"seed {seed}: {broken}", flush=True)
            if walks % 50 == 0:
                print(f"{checked} states in {walks} walks, {violations} violations", flush=True)
            if checked >= asked.states:
                break
        pool.terminate()
    print(f"{checked} states in {walks} walks from seed {asked.seed}, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
