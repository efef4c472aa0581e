"""The secrets that all processes of one ledger share, and the fingerprints by which a wrong one is noticed."""

import hmac
from dataclasses import dataclass
from typing import Final

from shared.runtime.refusal import StartRefused

FINGERPRINT_HEX_DIGITS: Final = 16


def fingerprint(secret: str) -> str:
    """16 hex digits that tell secrets apart without giving one away, as long as it is random."""
    return hmac.digest(secret.encode(), b"tellerline:fingerprint", "sha256").hex()[:FINGERPRINT_HEX_DIGITS]


class SecretsRefused(StartRefused):
    """The environment's secrets are not those of the ledger. The message says which, and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class LedgerSecrets:
    """`naming_key`: ids of commands derive from it, so it never changes. `secret`: signs envelopes and cursors.

    `previous` is the secret before the last rotation: what was signed with it still verifies.
    """

    naming_key: str
    secret: str
    previous: str | None = None

    @property
    def accepted(self) -> tuple[str, ...]:
        """The secrets whose signatures verify: the one that signs, then the previous one."""
        return (self.secret,) if self.previous is None else (self.secret, self.previous)

    def check(self, held_naming_key: str | None, held_secret: str | None, *, rotating: bool = False) -> None:
        """Compares them with the fingerprints of the ledger. Raises SecretsRefused.

        `rotating`: the ledger's secret may also be the previous one.
        """
        if held_naming_key is None or held_secret is None:
            raise SecretsRefused("the database does not know the fingerprints of its secrets: run `tellerline migrate`")
        if (own := fingerprint(self.naming_key)) != held_naming_key:
            raise SecretsRefused(
                f"TELLERLINE_NAMING_KEY has fingerprint {own}, this ledger's has {held_naming_key}: put the ledger's"
                " back (where none was set, it is the first TELLERLINE_SECRET); with another one a repeated request"
                " would be a new command"
            )
        if held_secret not in map(fingerprint, self.accepted if rotating else (self.secret,)):
            raise SecretsRefused(
                f"TELLERLINE_SECRET has fingerprint {fingerprint(self.secret)}, this ledger's has {held_secret}: put"
                " the ledger's back, or rotate it with TELLERLINE_SECRET_PREVIOUS and `tellerline migrate`"
            )
