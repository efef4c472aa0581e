"""What became of the commands in a message, as the journal says it."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, cast

from shared.database.postgres import Connection
from shared.domain.ids import UUID_TEXT
from shared.domain.values import value

POLL_S: Final = 0.2


@value
class CommandOutcome:
    """`code`: why it was rejected; None when it was posted."""

    code: str | None
    recorded_at: datetime


def command_ids(body: bytes) -> list[str]:
    """The ids of the commands in an envelope, or of the order in a mixer's message; none if it cannot be read."""
    try:
        message = cast("Mapping[str, object]", json.loads(body))
        commands = cast("Sequence[Mapping[str, object]]", message.get("commands") or [message.get("order") or {}])
        ids = [str(command.get("id")) for command in commands]
    except (ValueError, AttributeError, TypeError):
        return []
    return [identity for identity in ids if UUID_TEXT.fullmatch(identity)]


READ_OUTCOMES: Final = """
SELECT o.id::text, o.code, b.recorded_at
  FROM ledger.operations o JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 WHERE o.id = ANY($1::text[]::uuid[]) AND o.outcome <> 'started'
"""


async def read_outcomes(connection: Connection, ids: Sequence[str], wait_s: float = 0.0) -> dict[str, CommandOutcome]:
    """Command → outcome, of those that have one, at the latest after `wait_s` seconds."""
    until_s = time.monotonic() + wait_s
    while True:
        rows = await connection.fetch(READ_OUTCOMES, ids)
        if len(rows) == len(set(ids)) or time.monotonic() >= until_s:
            return {row["id"]: CommandOutcome(row["code"], row["recorded_at"]) for row in rows}
        await asyncio.sleep(POLL_S)


def outcome_lines(
    ids: Sequence[str], before: Mapping[str, CommandOutcome], after: Mapping[str, CommandOutcome]
) -> Iterator[str]:
    """A line for each command. `before`, `after`: outcomes before the message was sent back, and since."""
    for identity in ids:
        outcome = after.get(identity)
        if outcome is None:
            yield f"{identity} has no outcome yet: ask /v1/operations/{identity}"
            continue
        said = "posted" if outcome.code is None else f"rejected {outcome.code}"
        already = "was already " if identity in before else "is now "
        yield f"{identity} {already}{said}, at {outcome.recorded_at:%Y-%m-%d %H:%M:%S} UTC"
