"""`python -m testbed`: bring the local cluster up with this tree's operator, for tests that run afterwards."""

from testbed.operator import GPUS, bring_up

if __name__ == "__main__":
    bring_up(gpus=GPUS, say=lambda text: print(text, flush=True))
