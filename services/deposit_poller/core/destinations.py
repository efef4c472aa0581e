"""Which addresses a mix may pay to, as far as it can be said without asking the network."""

import re
from collections.abc import Collection, Sequence
from typing import Final

from shared.messages.mixer import ADDRESS_BYTES_MAX

ONE_SHOT_ADDRESS: Final = re.compile(r"pay-[0-9a-f-]{36}", re.ASCII)


def refusal_of(destinations: Sequence[str], index: int, ours: Collection[str]) -> str | None:
    """Why this one of the destinations cannot be paid to. `ours` holds the house and deposit addresses among them.

    The network has no format: any text is an address.
    """
    address = destinations[index]
    if not address.strip():
        return "the address is empty"
    try:
        length = len(address.encode())
    except UnicodeEncodeError:
        return "an address is UTF-8 text"
    if length > ADDRESS_BYTES_MAX:
        return f"an address has at most {ADDRESS_BYTES_MAX:,} bytes of UTF-8"
    if "\0" in address:  # no PostgreSQL text holds it, and no UTF-8 text needs it
        return "an address has no U+0000"
    if address in destinations[:index]:
        return "the address stands here twice"
    if address in ours or ONE_SHOT_ADDRESS.fullmatch(address):
        return "the address is one of ours"
    return None
