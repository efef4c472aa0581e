"""Which addresses a mix may pay to, as far as it can be said without asking the network."""

import re
from collections.abc import Collection, Sequence
from typing import Final

from shared.mixer.jobcoin_rows import PLAIN_ADDRESS

ONE_SHOT_ADDRESS: Final = re.compile(r"pay-[0-9a-f-]{36}", re.ASCII)

EMPTY: Final = "the address is empty"
NOT_PLAIN: Final = "an address has letters, digits, - and _ only"
REPEATED: Final = "the address stands here twice"
OURS: Final = "the address is one of ours"
USED: Final = "the address was used before"


def refusal_of(destinations: Sequence[str], index: int, ours: Collection[str]) -> str | None:
    """Why this one of the destinations cannot be paid to. `ours` holds the house and deposit addresses among them."""
    address = destinations[index]
    if not address.strip():
        return EMPTY
    if not PLAIN_ADDRESS.fullmatch(address):
        return NOT_PLAIN
    if address in destinations[:index]:
        return REPEATED
    if address in ours or ONE_SHOT_ADDRESS.fullmatch(address):
        return OURS
    return None
