"""One number from Prometheus, by an instant query.

The address comes from the operator's settings alone: a user's object gives the query, never where it goes. Of an error
only its kind is told on, in words of our own: what else an answer holds may be somebody else's. Must not judge the
number.
"""

import asyncio
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish.adapters.bounded_http import BoundedHttp
from pilotfish.core.health.samples import QueryAnswer
from pilotfish.ports import Unmeasured

SECONDS = 3.0
AT_ONCE = 8
_OK = 200
_ERRORS: Mapping[str, str] = {
    "bad_data": "it does not understand the query{where}; try it in Prometheus itself",
    "execution": "the query fails when it runs; try it in Prometheus itself",
    "timeout": "the query takes too long",
    "canceled": "the query was canceled",
    "unavailable": "it is not ready to answer",
}
"""By `errorType`."""
_WHERE = re.compile(r"\b([0-9]{1,4}):([0-9]{1,4}): parse error")


class NoPrometheus:
    """ports.Queries where no address is set."""

    async def ask(self, _query: str) -> QueryAnswer:
        """The same for every query."""
        return QueryAnswer(error="the operator knows no Prometheus; set prometheus.url of its chart")

    async def close(self) -> None:
        """Nothing was opened."""


class Prometheus:
    """ports.Queries over the HTTP API.

    url: base address such as `http://prometheus.monitoring:9090`. token_file: holds a bearer token and is read for
    every query, because tokens of service accounts change.
    """

    def __init__(self, url: str, *, token_file: Path | None = None) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._token_file = token_file
        self._http = BoundedHttp(seconds=SECONDS, at_once=AT_ONCE)

    async def ask(self, query: str) -> QueryAnswer:
        """The number; nothing for an empty result and for NaN; an error for everything else."""
        try:
            headers = await self._headers()
            form = {"query": query, "timeout": f"{SECONDS:g}s"}
            status, body = await self._http.ask(self._url, form=form, headers=headers)
        except Unmeasured as error:
            return QueryAnswer(error=f"Prometheus: {error}")
        return read_answer(status, body)

    async def close(self) -> None:
        """Close what was opened."""
        await self._http.close()

    async def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = (await asyncio.to_thread(self._token_file.read_text)).strip()
        except (OSError, ValueError) as error:
            raise Unmeasured("the file of its token cannot be read") from error
        return {"Authorization": f"Bearer {token}"}


def make_queries(url: str, *, token_file: Path | None) -> Prometheus | NoPrometheus:
    """What asks the address; an empty one is none."""
    return Prometheus(url, token_file=token_file) if url else NoPrometheus()


def read_answer(status: int, body: bytes) -> QueryAnswer:
    """What the API's answer to an instant query says, whatever came back.

    A scalar and a vector of one element are a number, infinity included. Several elements, a range and a string are
    errors of the query.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
        return QueryAnswer(error=f"Prometheus: HTTP {status} that is no answer of its API")
    if status != _OK or answer["status"] != "success":
        return QueryAnswer(error=f"Prometheus: {_told(answer) or f'HTTP {status}'}")
    data = answer.get("data")
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind == "scalar":
        return _number(result)
    if kind == "vector" and isinstance(result, list):
        return _only(result)
    if kind in ("matrix", "string"):
        return QueryAnswer(error=f"the query returns a {kind}; write one that returns one number")
    return QueryAnswer(error=f"Prometheus: HTTP {status} that is no answer of its API")


def _told(answer: Mapping[str, Any]) -> str | None:
    """What is known of an error, without a word of the answer."""
    place = _WHERE.search(str(answer.get("error")))
    where = f" (line {place[1]}, character {place[2]})" if place else ""
    sentence = _ERRORS.get(str(answer.get("errorType")))
    return None if sentence is None else sentence.format(where=where)


def _only(vector: list[Any]) -> QueryAnswer:
    if not vector:
        return QueryAnswer()
    if len(vector) > 1:
        return QueryAnswer(error=f"the query returns {len(vector)} series; aggregate them, to return one number")
    (element,) = vector
    if isinstance(element, dict) and "histogram" in element and "value" not in element:
        return QueryAnswer(error="the query returns a histogram; write one that returns one number")
    return _number(element.get("value") if isinstance(element, dict) else None)


def _number(pair: Any) -> QueryAnswer:
    """[time, "number"]."""
    try:
        _, text = pair
        value = float(text) if isinstance(text, str) else None
    except (TypeError, ValueError):
        value = None
    if value is None:
        return QueryAnswer(error="Prometheus: a value that is no number")
    return QueryAnswer() if math.isnan(value) else QueryAnswer(value=value)
