"""Dead letters: copies of messages that no service could process, in a queue that an operator looks into."""

import time
import uuid
from collections.abc import Mapping
from typing import Final

from shared.broker.channels import OutgoingMessage
from shared.messages import topology
from shared.messages.envelopes import MAC_HEADER

ID_HEADER: Final = "x-dead-letter-id"
REASON_HEADER: Final = "x-dead-letter-reason"
SINCE_HEADER: Final = "x-dead-letter-since"  # seconds since 1970 UTC
EXCHANGE_HEADER: Final = "x-original-exchange"
KEY_HEADER: Final = "x-original-key"
RETRIES_HEADER: Final = "x-retries"
# Headers (or prefixes of them) that dead-lettering or the broker added. All others are the message's own.
_OWN_HEADERS: Final = (
    ID_HEADER,
    REASON_HEADER,
    SINCE_HEADER,
    "x-original-",
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
)
REASON_CHARACTERS_MAX: Final = 2_000


def dead_letter(
    body: bytes,
    *,
    kind: str | None,
    reason: str,
    exchange: str,
    key: str,
    reply_to: str | None,
    mac: object,
    retries: object = None,
) -> OutgoingMessage:
    """The copy to publish. `exchange` and `key`: where the message was published, and where a retry publishes it.

    `mac`, `retries`: the message's headers of that name, if it has them.
    """
    return OutgoingMessage(
        topology.DEAD_LETTERS,
        topology.DEAD_LETTERS_KEY,
        body,
        kind or "unknown",
        reply_to=reply_to,
        headers={
            ID_HEADER: uuid.uuid4().hex,
            REASON_HEADER: reason[:REASON_CHARACTERS_MAX],
            SINCE_HEADER: int(time.time()),
            EXCHANGE_HEADER: exchange,
            KEY_HEADER: key,
            **({MAC_HEADER: mac} if isinstance(mac, str) else {}),
            **({RETRIES_HEADER: retries} if isinstance(retries, int) else {}),
        },
    )


def headers_of_message(headers: Mapping[str, object]) -> dict[str, str | int]:
    """The headers that the message itself had."""
    return {
        name: value
        for name, value in headers.items()
        if isinstance(value, str | int) and not name.startswith(_OWN_HEADERS)
    }
