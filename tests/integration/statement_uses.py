"""How each SQL statement of the product is used on the tables of tests/backends/large_tables.py, and what it may read.

A statement is named by its module and constant, a template of shared.mixer.store also by the table. A new one needs
an entry here, or a test fails.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Final

from tests.backends.large_tables import ROWS

# Enough for a handful of rows by key. The smallest of the large tables has 800 blocks.
BLOCKS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Use:
    """One call. `arguments` are as PostgreSQL reads text, None is null. `blocks_max`: blocks of 8 kB, cached or not.

    `must_find`: the plan returns rows, or changes some; else a statement that finds nothing would look cheap.
    """

    arguments: Sequence[str | int | None] = ()
    blocks_max: int = BLOCKS_MAX
    must_find: bool = True


def row_id(n: int) -> str:
    """The UUID of row n."""
    digest = md5(str(n).encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


def array(*values: object) -> str:
    """An array as PostgreSQL reads it."""
    return "{" + ",".join(map(str, values)) + "}"


# A page of 20 transactions with the accounts and entries of each: some 35 blocks for one.
PAGE_BLOCKS_MAX: Final = 2_000
# As many entries of an account as are read one by one, each with its operation and batch.
FIRST_ENTRIES_BLOCKS_MAX: Final = 10_000

STATUSES: Final = array("open", "frozen", "closed")
MOVING: Final = array("deposit.v1", "withdrawal.v1", "transfer.v1", "hold.capture.v1", "return.v1")
EVER: Final = ("-infinity", "infinity")
BUSY: Final = ("false", "owner-busy")


def listed(
    name: str,
    *,
    reader: tuple[str, str] = ("true", "admin"),
    reference: str = "",
    kinds: str = MOVING,
    place: tuple[str, int, int] = ("infinity", 0, 0),
    limit: int = 20,
) -> Sequence[str | int | None]:
    """The arguments for a page of a list."""
    return *reader, name, reference, kinds, *EVER, *place, limit


FEW: Final = ROWS // 10
LAST_BATCH: Final = ROWS // 4
ID: Final = row_id(10_007)
NEW_ID: Final = "00000000-0000-8000-8000-000000000000"
IDS: Final = array(*map(row_id, range(1, 11)))
ACCOUNTS: Final = array(*(f"account-{n}" for n in range(1, 11)), "busy", "nobody")
FINGERPRINT: Final = "\\x00112233445566778899aabbccddeeff"
# All twelve pairs of partitions, each destination with a backlog of 10 rows from one of its sources.
PAIRS: Final = [(destination, source) for destination in range(4) for source in range(4) if source != destination]
CURSORS: Final = (
    array(*(destination for destination, _ in PAIRS)),
    array(*(source for _, source in PAIRS)),
    array(*(LAST_BATCH - 10 for _ in PAIRS)),
)
NEXT: Final = str(LAST_BATCH + 1)
# What ledger.append is given for one batch that has a row of everything.
BATCH: Final = json.dumps(
    {
        "accounts": [["new", "USD", "owner", "0", NEXT, "open", None]],
        "operations": [
            [NEW_ID, "0", NEXT, "0", "transfer.v1", "owner", FINGERPRINT, "posted", None, None, None, None, None, None]
        ],
        "entries": [
            ["busy", str(FEW + 1), NEW_ID, "USD", "-1", "0", "1", "0", "0", "open", "0", NEXT, "0"],
            ["account-1", "91", NEW_ID, "USD", "1", "0", "1", "0", "0", "open", "0", NEXT, "1"],
        ],
        "transit": [["0", NEXT, "1", "{}"]],
        "settlements": [["3", NEXT, "0", NEXT]],
        "holds": [[NEW_ID, "busy", "USD", "1", None, NEW_ID, None, "0", NEXT]],
        "hold_ends": [[row_id(100), "voided", NEW_ID, "0", NEXT]],
        "account_changes": [["busy", "frozen", None]],
        "batches": [["0", NEXT, "1", "1", "2", "{}", "00"]],
        "listed": [["ledger", "", "USD", "transfer.v1", "0", NEXT, "{0}", f"{{{NEW_ID}}}"]],
    }
)

WORKER: Final[Mapping[str, Sequence[Use]]] = {
    "services.ledger_worker.store.commits.APPEND": [Use(("worker", BATCH))],
    "services.ledger_worker.store.commits.FENCE": [Use((array(0, 1), "worker", array(1, 1)))],
    "services.ledger_worker.store.reads.ASSETS": [Use()],
    "services.ledger_worker.store.reads.ACCOUNTS": [Use((ACCOUNTS,))],
    "services.ledger_worker.store.reads.METADATA": [Use((ACCOUNTS,))],
    "services.ledger_worker.store.reads.HOLDS": [Use((IDS,))],
    "services.ledger_worker.store.reads.KNOWN": [Use((IDS,))],
    "services.ledger_worker.store.reads.HEADS": [Use((0,)), Use((3,))],
    "services.ledger_worker.store.reads.PENDING_TRANSIT": [
        Use((*CURSORS, 42, 600_000)),
        Use((*CURSORS[:2], CURSORS[2].replace(str(LAST_BATCH - 10), "0"), 42, 600_000)),
        Use((*CURSORS[:2], CURSORS[2].replace(str(LAST_BATCH - 10), "0"), 42, 1)),
        Use((array(1), array(0), array(LAST_BATCH), 500, 600_000), must_find=False),
    ],
    "services.ledger_worker.store.reads.TRANSIT_TOTALS": [Use((0, LAST_BATCH // 2, 1), must_find=False)],
}

GATEWAY: Final[Mapping[str, Sequence[Use]]] = {
    "services.gateway.store.operations.READ_OUTCOMES": [Use((IDS,))],
    "services.gateway.store.accounts.READ_ACCOUNT": [Use(("busy",))],
    "services.gateway.store.accounts.READ_ACCOUNT_AFTER": [Use((ID,), must_find=False)],
    "services.gateway.store.accounts.LIST_ACCOUNTS": [
        Use(("", "", "z", STATUSES, 20)),
        Use(("account-5", "", "z", array("frozen"), 20)),
        Use(("", "nobody", "nobodyz", STATUSES, 20), must_find=False),
        Use(("", "", "z", array("closed"), 20), must_find=False),
    ],
    "services.gateway.store.accounts.LIST_ACCOUNTS_OF_OWNER": [
        Use(("", "", "z", STATUSES, 20, "owner-1")),
        Use(("", "nobody", "nobodyz", STATUSES, 20, "owner-1"), must_find=False),
    ],
    "services.gateway.store.accounts.LIST_ACCOUNTS_OF_ASSET": [
        Use(("", "", "z", STATUSES, 20, "BTC")),
        Use(("", "", "z", array("closed"), 20, "USD"), must_find=False),
    ],
    "services.gateway.store.accounts.LIST_ACCOUNTS_OF_OWNER_IN_ASSET": [
        Use(("", "", "z", STATUSES, 20, "owner-busy", "USD")),
        Use(("", "", "z", STATUSES, 20, "owner-busy", "BTC"), must_find=False),
    ],
    "services.gateway.store.accounts.READ_BALANCE_AT": [Use(("busy", 0, "2026-01-01T00:05:00Z"))],
    "services.gateway.store.entries.LIST_ENTRIES": [
        Use(("busy", 0, 2**62, None, None, 20)),
        Use(("account-1", 0, 2**62, None, None, 20)),
        Use(("busy", 0, 2**62, "2026-01-01T00:05:00Z", "2026-01-01T00:06:00Z", 20), blocks_max=500),
    ],
    "services.gateway.store.entries.LIST_ENTRIES_OF_KIND": [
        Use(("busy", 2**62, *EVER, "transfer.v1", 20), blocks_max=PAGE_BLOCKS_MAX),
        Use(("busy", 5_000, *EVER, "transfer.v1", 20), blocks_max=PAGE_BLOCKS_MAX),
        Use(("account-1", 2**62, *EVER, "transfer.v1", 20), blocks_max=PAGE_BLOCKS_MAX),
        # It looks at each of the first thousand entries.
        Use(("busy", 2**62, *EVER, "return.v1", 20), blocks_max=FIRST_ENTRIES_BLOCKS_MAX, must_find=False),
    ],
    "services.gateway.store.assets.READ_ASSET": [Use(("USD",))],
    "services.gateway.store.assets.LIST_ASSETS": [Use(("", 20))],
    "services.gateway.store.instants.READ_INSTANTS": [Use()],
    "services.gateway.store.keys.READ_LIVE_KEYS": [Use(("{\\\\x00}",), must_find=False)],
    "services.gateway.store.keys.NOTE_KEYS_USED": [Use((array("0000000000000001"),))],
    "services.gateway.store.mixes.READ_MINIMUM": [Use((ID,))],
    "services.gateway.store.mixes.READ_MIX": [Use((row_id(1),), must_find=False)],
    "services.gateway.store.mixes.LIST_MIXES": [Use(("2026-01-01T12:00:00Z", ID, 100), blocks_max=PAGE_BLOCKS_MAX)],
    "services.gateway.store.mixes.LIST_MIXES_OF_OWNER": [Use(("2026-01-01T12:00:00Z", ID, 100, "owner-1"))],
    "services.gateway.store.mixes.LIST_PAYOUTS": [Use((ID, "2025-01-01T00:00:00Z", NEW_ID, 50))],
    "services.gateway.store.payouts.LIST_OPERATED_PAYOUTS": [
        Use((0, "1970-01-01", NEW_ID, 6, 50), blocks_max=PAGE_BLOCKS_MAX),
        Use((6, "2025-01-01", NEW_ID, 6, 50), blocks_max=PAGE_BLOCKS_MAX),
        Use((1, "1970-01-01", NEW_ID, 1, 50), must_find=False),
    ],
    "services.gateway.store.payouts.READ_OPERATED_PAYOUT": [Use((ID,))],
    "services.gateway.store.payouts.READ_PAYOUT_DECISION": [Use((ID,))],
    "services.gateway.store.sweeps.LIST_OPERATED_SWEEPS": [
        Use((0, "1970-01-01", NEW_ID, 4, 50), blocks_max=PAGE_BLOCKS_MAX),
        Use((4, "2025-01-01", NEW_ID, 4, 50), blocks_max=PAGE_BLOCKS_MAX),
        Use((1, "1970-01-01", NEW_ID, 1, 50), must_find=False),
    ],
    "services.gateway.store.sweeps.READ_OPERATED_SWEEP": [Use((ID,))],
    "services.gateway.store.sweeps.READ_SWEEP_DECISION": [Use((ID,))],
    "services.gateway.store.operations.READ_OPERATION": [Use((ID,))],
    "services.gateway.store.outcomes.READ_RECORDED": [Use((array("true"), array("admin"), array(ID)))],
    "services.gateway.store.transaction_lists.LIST_TRANSACTIONS": [
        Use(listed("ledger"), blocks_max=PAGE_BLOCKS_MAX),
        Use(listed("ledger", kinds=array("deposit.v1")), blocks_max=PAGE_BLOCKS_MAX),
        Use(listed("ledger", kinds=array("return.v1")), must_find=False),
        Use(listed("ledger", reference="reference-100")),
        Use(listed("ledger", reference="nobody-uses-it"), must_find=False),
        Use(listed("ledger", place=("2026-01-01T00:05:00Z", 0, 0)), blocks_max=PAGE_BLOCKS_MAX),
        Use(listed("owner:owner-busy", reader=BUSY), blocks_max=PAGE_BLOCKS_MAX),
        Use(listed("owner:owner-busy", reader=BUSY, kinds=array("return.v1")), must_find=False),
        # A thousand assets.
        Use(listed("owner:owner-assets", reader=BUSY), blocks_max=PAGE_BLOCKS_MAX),
        Use(listed("owner:owner-assets", reader=BUSY, limit=500), blocks_max=25 * PAGE_BLOCKS_MAX),
    ],
    "services.gateway.store.transaction_lists.LIST_OF_ASSET": [
        Use((*listed("ledger"), "BTC")),
        Use((*listed("ledger"), "EUR"), must_find=False),
        Use((*listed("ledger", kinds=array("deposit.v1")), "BTC"), must_find=False),
        Use((*listed("owner:owner-busy", reader=BUSY), "BTC"), must_find=False),
        Use((*listed("owner:owner-assets", reader=BUSY), "ASSET-7"), blocks_max=PAGE_BLOCKS_MAX),
    ],
    "services.gateway.store.transaction_lists.LIST_OF_ACCOUNT": [
        Use((*listed("account:busy"), None, "busy"), blocks_max=PAGE_BLOCKS_MAX),
        Use((*listed("account:busy"), "USD", "busy"), blocks_max=PAGE_BLOCKS_MAX),
        Use((*listed("account:account-1"), None, "account-1"), blocks_max=PAGE_BLOCKS_MAX),
        Use(
            (*listed("account:busy", kinds=array("return.v1")), None, "busy"),
            blocks_max=FIRST_ENTRIES_BLOCKS_MAX,
            must_find=False,
        ),
        Use((*listed("account:busy"), "BTC", "busy"), blocks_max=FIRST_ENTRIES_BLOCKS_MAX, must_find=False),
    ],
    "services.gateway.store.transactions.READ_TRANSACTION": [Use(("true", "admin", ID))],
}

COMMANDS: Final[Mapping[str, Sequence[Use]]] = {
    "shared.journal.suspense.READ_SUSPENSE": [Use(("suspense:USD:2", 980, True, 21), blocks_max=PAGE_BLOCKS_MAX)],
    "shared.journal.suspense.READ_SUSPENSE_ITEM": [Use(("suspense:USD:2", 500))],
    "services.gateway.store.operator.LIST_UNSETTLED": [
        Use((-1, -1, 0, 21), blocks_max=PAGE_BLOCKS_MAX, must_find=False)
    ],
    "services.gateway.store.operator.READ_PARTITION_OWNERS": [Use()],
    "tellerline.commands.keys.WRITE_KEY": [Use(("f" * 16, "\\x" + "00" * 32, "somebody", array("read"), None))],
    "tellerline.commands.keys.REVOKE_KEY": [Use(("0000000000000001",))],
}

MIXER: Final[Mapping[str, Sequence[Use]]] = {
    "shared.mixer.ledger.READ_OUTCOME": [Use((ID,))],
    "shared.mixer.ledger.READ_ORDER": [Use((ID,))],
    "services.deposit_poller.store.mixes.WRITE_ORDER": [
        Use((NEW_ID, NEW_ID, FINGERPRINT, "owner", "address", array("somewhere"), 0, 0, 0, 1))
    ],
    "services.deposit_poller.store.mixes.READ_ORDER": [Use((ID,))],
    "services.deposit_poller.store.mixes.READ_OUR_ADDRESSES": [Use((array(ID.replace("-", ""), "nowhere"),))],
    "services.deposit_poller.store.mixes.READ_IS_OPEN": [Use()],
    "services.deposit_poller.store.deposits.READ_CURSOR": [Use(("network",))],
    "services.deposit_poller.store.deposits.READ_NETWORK": [Use()],
    "services.deposit_poller.store.deposits.LOCK_CURSOR": [Use(("network",))],
    "services.deposit_poller.store.deposits.WRITE_CURSOR": [Use(("network", 1, 1, "\\x00"))],
    "services.deposit_poller.store.deposits.READ_KNOWN": [
        Use(("network", array("sender"), array(ID.replace("-", "")), array("1"))),
    ],
    "services.deposit_poller.store.deposits.WRITE_DEPOSIT": [
        Use((NEW_ID, ID, "network", "2026-01-01", "sender", "\\x00", "address", 1, 10**22))
    ],
    "services.deposit_poller.store.deposits.START_DISPUTES": [Use((array("nowhere"),), must_find=False)],
    "services.deposit_poller.store.deposits.END_DISPUTES": [Use((array("nowhere"),), must_find=False)],
    "services.deposit_poller.store.deposits.COUNT_DISPUTED": [Use()],
    "services.deposit_poller.store.deposits.READ_UNCONFIRMED": [Use((100,), must_find=False)],
    "services.deposit_poller.store.deposits.CONFIRM": [Use((IDS,), must_find=False)],
    "services.deposit_poller.store.deposits.POSTPONE": [Use((IDS, "1 second", "1 hour"))],
    "services.deposit_poller.store.deposits.COUNT_UNCONFIRMED": [Use()],
    "services.deposit_poller.store.deposits.READ_WORTH_SWEEPING": [Use((100,), must_find=False)],
    "services.deposit_poller.store.deposits.LOCK_MIX": [Use((ID,))],
    "services.deposit_poller.store.deposits.READ_UNSWEPT": [Use((ID,), must_find=False)],
    "services.deposit_poller.store.deposits.WRITE_SWEEP": [Use((NEW_ID, ID, 1))],
    "services.deposit_poller.store.deposits.COLLECT": [Use((IDS, ID))],
    "services.deposit_poller.store.deposits.TAKE_UNSWEPT": [Use((ID, 0))],
    "services.deposit_poller.store.sweeps.READ_TAKEN_ROWS": [
        Use((ID.replace("-", ""), "house", 10**22), must_find=False)
    ],
    "services.deposit_poller.store.sweeps.READ_DISPUTED": [Use((ID,))],
    "services.deposit_poller.store.sweeps.READ_SWEPT_UNITS": [Use((ID,))],
    "services.deposit_poller.store.sweeps.LOCK_REST": [Use((ID,))],
    "services.deposit_poller.store.sweeps.WRITE_REST": [Use((ID, 0))],
    "services.deposit_poller.store.decisions.READ_CURSORS": [Use()],
    "services.deposit_poller.store.decisions.WRITE_JOURNAL_CURSOR": [Use((0, LAST_BATCH))],
    "services.deposit_poller.store.decisions.READ_DECISIONS": [
        Use((1, LAST_BATCH - 50_000, LAST_BATCH), must_find=False)
    ],
    "services.deposit_poller.store.decisions.LOCK_SWEEP": [Use((ID,))],
    "services.deposit_poller.store.decisions.WRITE_DECISION": [Use((NEW_ID, ID, "retry", True))],
    "services.deposit_poller.store.decisions.APPLY_DECISION": [Use((row_id(10_000), "cancelled"))],
    "services.deposit_poller.store.decisions.HASTEN": [Use((row_id(10_000),))],
    "services.distributor.store.credits.READ_CURSORS": [Use()],
    "shared.mixer.store.READ_LAST_BATCHES": [Use()],
    "services.distributor.store.credits.READ_CREDITS": [Use((1, LAST_BATCH - 50_000, LAST_BATCH))],
    "services.distributor.store.decisions.READ_DECISIONS": [Use((1, LAST_BATCH - 50_000, LAST_BATCH), must_find=False)],
    "services.distributor.store.decisions.LOCK_PAYOUT": [Use((ID,))],
    "services.distributor.store.decisions.WRITE_DECISION": [Use((NEW_ID, ID, "retry", True))],
    "services.distributor.store.decisions.APPLY_DECISION": [Use((row_id(10_000), "cancelling"))],
    "services.distributor.store.decisions.HASTEN": [Use((row_id(10_000),))],
    "services.distributor.store.decisions.LEAVE_FUNDING": [Use((row_id(1),))],
    "services.distributor.store.credits.WRITE_CREDIT": [Use((NEW_ID, ID, 1))],
    "services.distributor.store.credits.WRITE_CURSOR": [Use((0, LAST_BATCH))],
    "services.distributor.store.credits.READ_TERMS": [Use((ID,))],
    "services.distributor.store.credits.WRITE_PAYOUT": [Use((ID, ID, 2, "somewhere", 1, "1 second"))],
    "services.distributor.store.payouts.ENQUEUE": [Use((500,))],
    "services.distributor.store.payouts.CLAIM_IN_TURN": [Use((10, "10 seconds"))],
    "services.distributor.store.payouts.TAKE_ABSENT_FUNDINGS": [Use((8, "30 seconds"))],
    "services.distributor.store.payouts.LOOK_SOON": [Use((row_id(5_000), "30 seconds"))],
    "services.distributor.store.payouts.WRITE_RETURNED": [Use((row_id(5_000), 1))],
    "services.distributor.store.payouts.READ_OLDEST_DUE": [Use()],
    "shared.mixer.store.CLAIM@mixer.sweeps": [Use((10, "10 seconds"))],
    "shared.mixer.store.CLAIM@payouts.credits": [Use((10, "10 seconds"))],
    "shared.mixer.store.MOVE@mixer.sweeps": [Use((row_id(1), 0, "credited", "credited", 0, None, 1, ID))],
    "shared.mixer.store.MOVE@payouts.credits": [Use((row_id(1), 0, "planned", "planned", 0, None, 0))],
    "shared.mixer.store.MOVE@payouts.payouts": [
        Use((row_id(1), 0, "paid", "paid", 0, None, None, None), must_find=True)
    ],
    "shared.mixer.store.RELEASE@mixer.sweeps": [Use((row_id(1), 0, "1 second", 1, "why"))],
    "shared.mixer.store.RELEASE@payouts.credits": [Use((row_id(1), 0, "1 second", 1, "why"))],
    "shared.mixer.store.RELEASE@payouts.payouts": [Use((row_id(1), 0, "1 second", 1, "why"))],
    "shared.mixer.store.NEXT_ATTEMPT@mixer.sweeps": [Use((row_id(1), 0))],
    "shared.mixer.store.NEXT_ATTEMPT@payouts.credits": [Use((row_id(1), 0))],
    "shared.mixer.store.NEXT_ATTEMPT@payouts.payouts": [Use((row_id(1), 0))],
    "shared.mixer.store.COUNT_ROWS@mixer.sweeps": [Use()],
    "shared.mixer.store.COUNT_REASONS@mixer.sweeps": [Use((), must_find=False)],
    "shared.mixer.store.COUNT_ROWS@payouts.credits": [Use()],
    "shared.mixer.store.COUNT_REASONS@payouts.credits": [Use((), must_find=False)],
    "shared.mixer.store.COUNT_ROWS@payouts.payouts": [Use()],
    "shared.mixer.store.COUNT_REASONS@payouts.payouts": [Use((), must_find=False)],
    "shared.mixer.store.OPEN_INTENT@mixer.sweeps": [
        Use((NEW_ID, row_id(1), "sweep", "here", "house", 10**22, "1 second"))
    ],
    "shared.mixer.store.OPEN_INTENT@payouts.payouts": [
        Use((NEW_ID, row_id(1), "fund", "house", "here", 10**22, "1 second"))
    ],
    "shared.mixer.store.READ_INTENT@mixer.sweeps": [Use((row_id(10_000),))],
    "shared.mixer.store.READ_INTENT@payouts.payouts": [Use((row_id(10_000),))],
    "shared.mixer.store.END_INTENT@mixer.sweeps": [Use((row_id(10_000), "absent", None))],
    "shared.mixer.store.END_INTENT@payouts.payouts": [Use((row_id(10_000), "absent", None))],
    "shared.mixer.store.COUNT_INTENTS@mixer.sweeps": [Use()],
    "shared.mixer.store.COUNT_INTENTS@payouts.payouts": [Use()],
}

USES: Final = {**WORKER, **GATEWAY, **COMMANDS, **MIXER}

# Statements, or modules, that are not measured, each with its reason.
NOT_MEASURED: Final[Mapping[str, str]] = {
    "services.ledger_worker.store.leases": "tables with one row for each partition or worker",
    "services.ledger_worker.store.connections.TAKE_PRESENCE_LOCK": "reads no table",
    "services.gateway.store.health.READ_ONLY": "reads no table",
    "shared.database.postgres.BACKEND": "reads no table",
    "shared.database.postgres.MARK": "reads no table",
    "services.gateway.store.health.READ_SERVED": "tables with one row for each partition or worker",
    "services.gateway.store.health.READ_PROCESSES": "a table with one row for each process",
    "services.deposit_poller.store.deposits.READ_CONFIRMED_CONTENTS": "reads all deposits, when the list was rewritten",
    "services.deposit_poller.store.deposits.READ_SEEN_CONTENTS": "reads all sweeps, when the list was rewritten",
    "shared.mixer.progress_report.REPORT": "a table with one row for each process",
    "shared.mixer.progress_report.FORGET": "a table with one row for each process",
    "shared.mixer.store.CLAIM@payouts.payouts": "payouts are claimed in turn, by a statement of their own",
    "tellerline.chaos": "looks at what its own faults did, minutes after they began",
    "tellerline.verification.store": "verify reads the whole journal once, in one pass",
    "shared.database.secret_fingerprints": "a table of one row, and a sample once per migration",
    "shared.database.migrate": "once per migration",
    "shared.database.durability": "settings and a table of one row",
    "tellerline.commands.keys.LIST_KEYS": "prints every key",
    "services.gateway.store.keys.READ_PRINCIPALS": "an admin asks about an id of nobody known: reads an index of keys",
}
