"""Structured logs: one JSON object a line, or coloured lines on a terminal."""

import io
import json
import logging
import os
import sys
from typing import Final, Literal, TextIO, cast

import structlog
from prometheus_client import Counter

LINES_LOST: Final = Counter("tellerline_log_lines_lost", "Lines of the log that could not be written")

# Tracebacks without local variables, which may hold secrets.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=12),
)


class LogStream(io.TextIOBase):
    """Writes lines to a file descriptor; counts and drops those that it does not take (a full disk, a closed pipe).

    To end the process would do more harm than a gap in its log. The next line says how many are missing.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self._line_is_cut = False

    def write(self, text: str, /) -> int:
        """Writes whole lines, unbuffered. Never raises OSError."""
        if self._lost and self._write_all(json.dumps({"event": "log.lines_lost", "lines": self._lost}) + "\n"):
            self._lost = 0
        if self._lost or not self._write_all(text):
            self._lost += 1
            LINES_LOST.inc()
        return len(text)

    def _write_all(self, text: str) -> bool:
        """Returns whether all of it was written. Begins a new line if the last one was cut."""
        left = ("\n" * self._line_is_cut + text).encode(errors="backslashreplace")
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
                self._line_is_cut = bool(left)
        except OSError:
            return False
        return True


def configure_logs(service: str, log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Sets up structlog for the process and sends the standard library's records the same way."""
    on_terminal = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    stream = LogStream(sys.stderr.fileno())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if on_terminal
        else [_TRACEBACKS, structlog.processors.JSONRenderer(sort_keys=False)]
    )
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
