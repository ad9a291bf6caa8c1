"""How a run fails: one exception type with a reason from the closed set and a sentence for the user."""

import errno

from pilotfish.api.report import USER_ERROR_EXIT_CODE, OptimizerReason, one_line

_RETRY = frozenset(
    {
        OptimizerReason.SOURCE_UNREACHABLE,
        OptimizerReason.STORE_UNREACHABLE,
        OptimizerReason.VERIFICATION_ERROR,
        OptimizerReason.INTERRUPTED,
        OptimizerReason.INTERNAL_ERROR,
    },
)
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class OptimizerError(Exception):
    """A failure with a reason; the sentence says what is wrong, with what, and what to do next."""

    def __init__(self, reason: OptimizerReason, message: str) -> None:
        super().__init__(one_line(message))
        self.reason = reason

    @property
    def message(self) -> str:
        """The sentence, on one line."""
        return str(self)

    @property
    def exit_code(self) -> int:
        """10 when trying again cannot help, 1 when it may."""
        return 1 if self.reason in _RETRY else USER_ERROR_EXIT_CODE


def from_os_error(error: OSError, *, doing: str) -> OptimizerError:
    """The failure that an OSError means to a user."""
    if error.errno in _NO_SPACE:
        return OptimizerError(
            OptimizerReason.STORE_FULL,
            f"no space left while {doing}; raise spec.storage.size or delete revisions that are no longer needed",
        )
    return OptimizerError(OptimizerReason.INTERNAL_ERROR, f"{type(error).__name__} while {doing}: {error}")
