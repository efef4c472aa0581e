"""What one partition's next batch will write, as lines of COPY text; accounts change only through `enter`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.ledger_worker.core.accounts import Account, Hold, Status
from shared.ids import AccountId, AssetCode, Partition
from shared.journal import NULL, content_hash, copy_text
from shared.rejections import Rejection
from shared.transit_rows import Credit, encode_credits
from shared.values import value

CANCELLED_FINGERPRINT = "0" * 32  # a cancelled id has no content of its own: any repeat of it is a repeat


@value
class OperationRow:
    """One decided command, as the journal keeps it.

    `postings` is JSON text, `subject` what the command is about if it moves no money.
    """

    id: str
    kind: str
    principal: str
    fingerprint: str
    code: Rejection | None = None
    detail: str | None = None
    postings: str | None = None
    subject: str | None = None
    reference: str | None = None
    metadata: str | None = None
    accounts: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Draft:
    """The open batch of one partition. Sealed once, then committed whole or dropped whole."""

    partition: Partition
    batch: int
    operations: list[str] = field(default_factory=list[str])
    entries: list[str] = field(default_factory=list[str])
    accounts: list[str] = field(default_factory=list[str])
    assets: list[str] = field(default_factory=list[str])
    holds: list[str] = field(default_factory=list[str])
    hold_ends: list[str] = field(default_factory=list[str])
    settlements: list[str] = field(default_factory=list[str])
    transit: list[str] = field(default_factory=list[str])
    account_changes: dict[AccountId, tuple[Status, str | None]] = field(
        default_factory=dict[AccountId, tuple[Status, str | None]]
    )
    # Credits to other partitions, and what was folded in from them: source partition → asset → minor units.
    outgoing: dict[Partition, list[Credit]] = field(default_factory=dict[Partition, list[Credit]])
    incoming: dict[Partition, dict[AssetCode, int]] = field(default_factory=dict[Partition, dict[AssetCode, int]])
    # Credits entered in other lines by this very commit: the batch of each that took some, how many, and what has left
    # for them less what came from them, by asset, in minor units.
    cleared: dict[Partition, int] = field(default_factory=dict[Partition, int])
    cleared_credits: int = 0
    clearing: dict[AssetCode, int] = field(default_factory=dict[AssetCode, int])
    decided: list[OperationRow] = field(default_factory=list[OperationRow])

    @property
    def is_empty(self) -> bool:
        """Nothing to write: replays only."""
        return not (self.operations or self.entries or self.settlements or self.accounts)

    def enter(self, account: Account, operation: str | None, delta: int, held_delta: int = 0) -> None:
        """Writes one entry and moves the account to the state after it. Amounts in minor units."""
        account.seq += 1
        account.balance += delta
        account.held += held_delta
        account.batch = self.batch
        self.entries.append(
            f"{account.id}\t{account.seq}\t{operation or NULL}\t{account.asset}\t{delta}\t{held_delta}\t"
            f"{account.balance}\t"
            f"{account.held}\t{account.limit}\t{account.status}\t{self.partition}\t{self.batch}\t{len(self.entries)}\n"
        )

    def operate(self, row: OperationRow) -> None:
        """Writes the operation: the idempotency record, and the transaction if it moved money."""
        self.operations.append(
            f"{row.id}\t{self.partition}\t{self.batch}\t{len(self.operations)}\t{row.kind}\t{copy_text(row.principal)}\t"
            f"\\\\x{row.fingerprint}\t{'rejected' if row.code else 'posted'}\t{row.code or NULL}\t"
            f"{copy_text(row.detail)}\t"
            f"{copy_text(row.postings)}\t{copy_text(row.subject)}\t{copy_text(row.reference)}\t{copy_text(row.metadata)}\n"
        )
        self.decided.append(row)

    def open_account(self, account: Account, metadata: str | None) -> None:
        """Writes the account's row; status and metadata come last, since the hash leaves them out."""
        account.batch = self.batch
        self.accounts.append(
            f"{account.id}\t{account.asset}\t{copy_text(account.owner)}\t{self.partition}\t{self.batch}\t{account.status}\t"
            f"{copy_text(metadata)}\n"
        )

    def open_asset(self, asset: AssetCode, scale: int, name: str, operation: str) -> None:
        """Writes the asset's row."""
        self.assets.append(f"{asset}\t{scale}\t{copy_text(name)}\t{operation}\n")

    def place_hold(self, hold: Hold, expires_at_us: int | None) -> None:
        """Writes the hold's row; its end will be another row."""
        hold.batch = self.batch
        self.holds.append(
            f"{hold.id}\t{hold.account}\t{hold.asset}\t{hold.amount}\t{hold.destination or NULL}\t{hold.operation}\t"
            f"{NULL if expires_at_us is None else expires_at_us}\t{self.partition}\t{self.batch}\n"
        )

    def end_hold(self, hold: Hold, ended: str, operation: str) -> None:
        """Writes the hold's end."""
        hold.ended = ended
        hold.batch = self.batch
        self.hold_ends.append(f"{hold.id}\t{ended}\t{operation}\t{self.partition}\t{self.batch}\n")

    def send(self, destination: Partition, credit: Credit) -> None:
        """Puts a credit on its way to another partition."""
        self.outgoing.setdefault(destination, []).append(credit)

    def settle(self, source: Partition, source_batch: int) -> None:
        """Records that the transit row of that batch has been folded in here."""
        self.settlements.append(f"{source}\t{source_batch}\t{self.partition}\t{self.batch}\n")

    def write_transit_rows(self) -> None:
        """One row per destination that this batch sends credits to."""
        for destination in sorted(self.outgoing):
            credits = copy_text(encode_credits(self.outgoing[destination]))
            self.transit.append(f"{self.partition}\t{self.batch}\t{destination}\t{credits}\n")

    def lines(self) -> dict[str, Sequence[str]]:
        """Table → lines of this batch, in the order of the hash."""
        return {
            "accounts": self.accounts,
            "operations": self.operations,
            "entries": self.entries,
            "transit": self.transit,
            "settlements": self.settlements,
            "holds": self.holds,
            "hold_ends": self.hold_ends,
        }

    def content_hash(self) -> bytes:
        """SHA-256 over everything the batch writes (shared/journal.py)."""
        hashed_accounts = sorted(line.rsplit("\t", 2)[0] + "\n" for line in self.accounts)
        return content_hash(
            {
                **self.lines(),
                "accounts": hashed_accounts,
                "settlements": sorted(self.settlements, key=_settlement_order),
                "holds": sorted(self.holds),
                "hold_ends": sorted(self.hold_ends),
            }
        )


def _settlement_order(line: str) -> tuple[int, int]:
    source, source_batch, _ = line.split("\t", 2)
    return int(source), int(source_batch)
