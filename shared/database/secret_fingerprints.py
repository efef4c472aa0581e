"""Fingerprints of the ledger's secrets in the database: `migrate` writes them, every process compares them."""

from typing import Final

from shared.database import postgres
from shared.domain.ids import CommandIds, Principal
from shared.journal.transit import RETURN_KIND
from shared.runtime.ledger_secrets import LedgerSecrets, SecretsRefused, fingerprint

# So many operations are looked at for one whose id was made with the naming key.
SAMPLE: Final = 100

# Through JSON, since a ledger that was not migrated yet has no such columns.
READ_FINGERPRINTS = """
SELECT to_jsonb(c) ->> 'naming_key_fingerprint' AS naming_key, to_jsonb(c) ->> 'secret_fingerprint' AS secret
  FROM ledger.constants c
"""


async def check_secrets(connection: postgres.Connection, secrets: LedgerSecrets) -> None:
    """Raises SecretsRefused unless these are the secrets of the ledger in this database."""
    row = await connection.fetchrow(READ_FINGERPRINTS)
    secrets.check(*((None, None) if row is None else (row["naming_key"], row["secret"])))


READ_ISSUED = "SELECT id::text AS id, principal FROM ledger.operations WHERE kind <> $1 LIMIT $2"


async def check_before_migration(connection: postgres.Connection, secrets: LedgerSecrets) -> None:
    """Raises SecretsRefused if the existing ledger cannot go on with these secrets.

    One without fingerprints is checked by the ids in its journal: they show the naming key that made them.
    """
    row = await connection.fetchrow(READ_FINGERPRINTS)
    if row is None or row["naming_key"] is None:
        ids = CommandIds(secrets.naming_key)
        issued = [
            (str(each["id"]), Principal(each["principal"]))
            for each in await connection.fetch(READ_ISSUED, RETURN_KIND, SAMPLE)
        ]
        if issued and not any(ids.is_issued(identity, principal) for identity, principal in issued):
            raise SecretsRefused(
                "the ids in this ledger's journal were made with another naming key: set TELLERLINE_NAMING_KEY to the"
                " TELLERLINE_SECRET with which the ledger was made"
            )
        return
    secrets.check(row["naming_key"], row["secret"], rotating=True)


WRITE_FINGERPRINTS = "UPDATE ledger.constants SET naming_key_fingerprint = $1, secret_fingerprint = $2"


async def write_fingerprints(connection: postgres.Connection, secrets: LedgerSecrets) -> None:
    """Makes these the secrets of the ledger. Call it only after `check_before_migration`."""
    await connection.execute(WRITE_FINGERPRINTS, fingerprint(secrets.naming_key), fingerprint(secrets.secret))
