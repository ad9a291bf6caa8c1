"""The floor: a bare client that sends given requests, twenty objects at a time, and knows nothing of what they mean.

    python -m bench_operator.floor KUBECONFIG FILE

FILE has one JSON list per object: its requests in their order, each {verb, path, type, body}. A status comes with the
resourceVersion of its object. Prints its own CPU seconds.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from pilotfish.adapters.connection import authorization_of, connect

AT_ONCE = 20


async def main(kubeconfig: Path, objects: list[list[dict[str, Any]]]) -> None:
    """Send them all; the connection's settings come from where the operator's come."""
    client = await connect(kubeconfig=kubeconfig)
    configuration = client.configuration
    authorization = await authorization_of(configuration)
    headers = {} if authorization is None else {"Authorization": authorization}
    connector = aiohttp.TCPConnector(ssl=client.rest_client.ssl_context, limit=AT_ONCE)
    turns = asyncio.Semaphore(AT_ONCE)
    began = time.process_time()
    async with aiohttp.ClientSession(configuration.host, connector=connector, headers=headers) as session:

        async def send(requests: list[dict[str, Any]]) -> None:
            async with turns:
                for request in requests:
                    data = json.dumps(request["body"])
                    kind = {"Content-Type": request["type"]}
                    async with session.request(request["verb"], request["path"], data=data, headers=kind) as answer:
                        text = await answer.read()
                        if answer.status >= 300:  # noqa: PLR2004 - the boundary of success in HTTP
                            raise SystemExit(f"{request['path']}: HTTP {answer.status}: {text.decode()[:300]}")

        await asyncio.gather(*(send(requests) for requests in objects))
    await client.close()
    print(time.process_time() - began)


if __name__ == "__main__":
    lines = Path(sys.argv[2]).read_text().splitlines()
    asyncio.run(main(Path(sys.argv[1]), [json.loads(line) for line in lines]))
