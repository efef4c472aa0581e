"""API keys: how they are generated, their scopes, and the hash that the database stores."""

import hashlib
import re
import secrets
from enum import StrEnum
from typing import Final

from shared.domain.values import value

# Every key that a gateway accepts, and so every key that may be chosen as the admin key.
KEY_TEXT: Final = re.compile(r"[\x21-\x7e]{16,200}", re.ASCII)
KEY_RULE: Final = "a key has 16 to 200 printable ASCII characters and no space"


class Scope(StrEnum):
    """What a key permits. `admin` permits everything."""

    READ = "read"
    WRITE = "write"
    PAYOUT = "payout"
    ADMIN = "admin"


@value
class NewKey:
    """`text` is what the client sends, and is shown once; `id` names it in lists and logs."""

    id: str
    text: str

    @property
    def hash(self) -> bytes:
        """What the database keeps."""
        return hash_of_key(self.text)


def new_key() -> NewKey:
    """A key of 256 random bits."""
    identity = secrets.token_hex(8)
    return NewKey(identity, f"tl_{identity}_{secrets.token_urlsafe(32)}")


def hash_of_key(text: str) -> bytes:
    """SHA-256. Enough, since a key of 256 random bits cannot be guessed; a slow hash would invite denial of service."""
    return hashlib.sha256(text.encode()).digest()
