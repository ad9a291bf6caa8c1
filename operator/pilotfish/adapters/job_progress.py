"""What the pod of a Job says of its progress. It runs other people's models, so its answer is short, checked text."""

from pydantic import ValidationError

from pilotfish.adapters.bounded_http import BoundedHttp, host_of
from pilotfish.api.job_progress import LARGEST_PROGRESS, PROGRESS_PATH, PROGRESS_PORT, ProgressNote
from pilotfish.ports import Unmeasured

SECONDS = 2.0
AT_ONCE = 16
_OK = 200


class JobProgressReader:
    """ports.ProgressReader over HTTP."""

    def __init__(self, *, port: int = PROGRESS_PORT) -> None:
        self._port = port
        self._http = BoundedHttp(seconds=SECONDS, at_once=AT_ONCE)

    async def progress(self, *, address: str) -> ProgressNote:
        """What the pod at this IP address says now. Raises Unmeasured."""
        status, body = await self._http.ask(f"http://{host_of(address)}:{self._port}{PROGRESS_PATH}")
        if status != _OK:
            raise Unmeasured(f"it answers HTTP {status}")
        if len(body) > LARGEST_PROGRESS:
            raise Unmeasured(f"its answer is longer than {LARGEST_PROGRESS} bytes")
        try:
            note = ProgressNote.model_validate_json(body)
        except ValidationError as error:
            raise Unmeasured("its answer is no progress") from error
        return note.model_copy(update={"message": "".join(c if c.isprintable() else " " for c in note.message)})

    async def close(self) -> None:
        """Close what was opened."""
        await self._http.close()
