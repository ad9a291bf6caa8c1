"""One line of JSON per decision (or a readable line on a terminal), the libraries' loggers included.

Keys: ts, level, logger, msg, and what is bound to the pass: namespace, name, uid, generation, reconcile_id.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["json", "console"]
_LIBRARIES = ("kopf", "kubernetes", "aiohttp", "asyncio")
_ORDER = ("ts", "level", "logger", "msg", "namespace", "name", "uid", "generation", "reconcile_id")


def configure(*, level: str, style: LogFormat, stream: TextIO | None = None) -> None:
    """Route every logger of the process through one formatter. May be called again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=())],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last(style)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
        library.setLevel(max(logging.INFO, root.level))
    # One line per HTTP request of the probes says nothing.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry what is bound to the current pass."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


def _last(style: LogFormat) -> list[Processor]:
    if style == "console":
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, _rename, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _rename(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["msg"] = event.pop("event", "")
    first = {key: event.pop(key) for key in _ORDER if key in event}
    return {**first, **event}
