"""`python -m testbed GPUS`: bring the local cluster up with this tree's operator, for tests that run afterwards."""

import sys

from testbed.operator import bring_up

if __name__ == "__main__":
    bring_up(gpus=int(sys.argv[1]), say=lambda text: print(text, flush=True))
