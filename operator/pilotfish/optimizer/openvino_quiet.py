"""Keeps OpenVINO and NNCF from reporting home: import this before either of them. Imports nothing heavy.

Both send events through the package openvino-telemetry unless it is absent; there is no variable that turns it off.
"""

import sys

_HOME = "openvino_telemetry"


def silence() -> None:
    """Make this process unable to import the package; both libraries then do without it."""
    sys.modules[_HOME] = None  # type: ignore[assignment]


def is_silent() -> bool:
    """Whether the package is out of reach in this process."""
    return _HOME in sys.modules and sys.modules[_HOME] is None


silence()
