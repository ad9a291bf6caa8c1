"""What every test may ask for."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores: a pool of threads in each, waiting by spinning, makes torch slower than one thread.
    for _pool in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_pool, "1")

pytest_plugins = ["support.apiserver", "support.record"]
