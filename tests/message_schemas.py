"""Writes the JSON Schema of every message: `python -m tests.message_schemas [folder]`, by default docs/messages.

Consumers read these, and a test fails when they are not what the models say: a message does not change unnoticed.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shared.messages import CommandEnvelope, EventMessage, MixMessage, Nudge, Reply
from shared.messages.base import Message

FOLDER: Final = Path("docs/messages")
# File → what it describes; the version is that of the message's kind.
MESSAGES: Final[Mapping[str, type[Message]]] = MappingProxyType({
    "command_envelope.v1.json": CommandEnvelope,
    "event.v1.json": EventMessage,
    "mix.v1.json": MixMessage,
    "nudge.v2.json": Nudge,
    "reply.v1.json": Reply,
})  # fmt: skip


def schema_text(message: type[Message]) -> str:
    """The schema as its file holds it."""
    return json.dumps(message.model_json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> None:
    """Writes every file, and takes away those of messages that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.glob("*.json")) - {folder / name for name in MESSAGES}:
        stale.unlink()
    for name, message in MESSAGES.items():
        (folder / name).write_text(schema_text(message), encoding="utf-8")


def main() -> None:
    """Entry point."""
    write_schemas(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)


if __name__ == "__main__":
    main()
