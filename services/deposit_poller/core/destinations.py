"""Which addresses a mix may pay to, as far as it can be said without asking the network."""

import re
from collections.abc import Collection, Sequence
from typing import Final

from shared.mixer.jobcoin_rows import PLAIN_ADDRESS

ONE_SHOT_ADDRESS: Final = re.compile(r"pay-[0-9a-f-]{36}", re.ASCII)


def refusal_of(destinations: Sequence[str], index: int, ours: Collection[str]) -> str | None:
    """Why this one of the destinations cannot be paid to. `ours` holds the house and deposit addresses among them."""
    address = destinations[index]
    if not address.strip():
        return "the address is empty"
    if not PLAIN_ADDRESS.fullmatch(address):
        return "an address has letters, digits, - and _ only"
    if address in destinations[:index]:
        return "the address stands here twice"
    if address in ours or ONE_SHOT_ADDRESS.fullmatch(address):
        return "the address is one of ours"
    return None
