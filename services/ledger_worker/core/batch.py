"""What one partition's next batch will write, as lines of COPY text. Accounts change only through `enter`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.ledger_worker.core.accounts import Account, Hold, Status
from services.ledger_worker.core.lists import Entered, ListedOperation, list_batch
from shared.domain.ids import AccountId, AssetCode, Partition
from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.journal.rows import NULL, content_hash, copy_line, copy_text
from shared.journal.transit import TransitCredit, encode_credits
from shared.messages import Command


@value
class OperationRow:
    """One decided command, as the journal keeps it.

    `postings` is JSON text, `assets` those of the postings; `subject` the id of the account, hold or asset concerned.
    `accounts` go into events only.
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
    assets: tuple[str, ...] = ()


@value
class SealedBatch:
    """One partition's batch, ready to be written. `lines` are COPY text by table.

    `cursors` is a JSON object: source partition → its last batch whose transit row was taken in here. `listed`: rows of
    ledger.listed, see ListBuilder.rows.
    """

    partition: Partition
    batch: int
    epoch: int
    lines: Mapping[str, Sequence[str]]
    assets: Sequence[str]
    account_changes: Mapping[AccountId, tuple[Status, str | None]]
    cursors: str
    content_hash: bytes
    operations: Sequence[OperationRow]
    transit_to: Sequence[Partition]
    listed: Sequence[Sequence[str]]


@dataclass(slots=True, eq=False)
class BatchBuilder:
    """The open batch of one partition. It is sealed once, and then either committed or discarded as a whole."""

    partition: Partition
    batch: int
    lines: dict[str, list[str]] = field(default_factory=lambda: {table: [] for table in TABLES})
    assets: list[str] = field(default_factory=list[str])
    account_changes: dict[AccountId, tuple[Status, str | None]] = field(
        default_factory=dict[AccountId, tuple[Status, str | None]]
    )
    operations: list[OperationRow] = field(default_factory=list[OperationRow])
    entered: list[Entered] = field(default_factory=list[Entered])
    # Operations of other partitions whose credits landed here.
    landed: dict[str, ListedOperation] = field(default_factory=dict[str, ListedOperation])
    # Credits to other partitions, their sums, and those of what was taken in: other partition → asset → minor units.
    outgoing: dict[Partition, list[TransitCredit]] = field(default_factory=dict[Partition, list[TransitCredit]])
    sent: dict[Partition, dict[AssetCode, int]] = field(default_factory=dict[Partition, dict[AssetCode, int]])
    incoming: dict[Partition, dict[AssetCode, int]] = field(default_factory=dict[Partition, dict[AssetCode, int]])

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to write, for example because all commands were repeats."""
        return not any(self.lines.values())

    def enter(self, account: Account, operation: str | None, delta: int, held_delta: int = 0) -> None:
        """Adds one entry and moves the account to the state after it. Amounts in minor units."""
        account.seq += 1
        account.balance += delta
        account.held += held_delta
        account.batch = self.batch
        self.entered.append(Entered(account, account.seq, operation, delta != 0))
        entries = self.lines["entries"]
        entries.append(
            f"{account.id}\t{account.seq}\t{operation or NULL}\t{account.asset}\t{delta}\t{held_delta}\t"
            f"{account.balance}\t{account.held}\t{account.limit}\t{account.status}\t"
            f"{self.partition}\t{self.batch}\t{len(entries)}\n"
        )

    def add_operation(self, row: OperationRow) -> None:
        """Adds the operation: the idempotency record, and the transaction if it moved money."""
        operations = self.lines["operations"]
        operations.append(
            f"{row.id}\t{self.partition}\t{self.batch}\t{len(operations)}\t{row.kind}\t{copy_text(row.principal)}\t"
            f"\\\\x{row.fingerprint}\t{'rejected' if row.code else 'posted'}\t{row.code or NULL}\t"
            + copy_line(row.detail, row.postings, row.subject, row.reference, row.metadata)
        )
        self.operations.append(row)

    def add_posted(
        self,
        command: Command,
        *,
        postings: str | None = None,
        subject: str | None = None,
        metadata: str | None = None,
        accounts: tuple[str, ...] = (),
        assets: tuple[str, ...] = (),
    ) -> None:
        """Adds the operation of a command that was posted."""
        self.add_operation(
            OperationRow(
                command.id,
                command.kind,
                command.principal,
                command.fingerprint,
                postings=postings,
                subject=subject,
                reference=command.reference,
                metadata=metadata or command.metadata,
                accounts=accounts,
                assets=assets,
            )
        )

    def add_account(self, account: Account, metadata: str | None) -> None:
        """Adds the account's row. Status and metadata come last, since the hash leaves them out."""
        account.batch = self.batch
        self.lines["accounts"].append(
            copy_line(
                account.id, account.asset, account.owner, f"{self.partition}", f"{self.batch}", account.status, metadata
            )
        )

    def add_asset(self, asset: AssetCode, scale: int, name: str, operation: str) -> None:
        """Adds the asset's row."""
        self.assets.append(copy_line(asset, f"{scale}", name, operation))

    def change_account(self, account: Account, metadata: str | None) -> None:
        """Updates the copy of status and metadata in the account's row, which lists read. None keeps the metadata."""
        _, earlier = self.account_changes.get(account.id, (account.status, None))
        self.account_changes[account.id] = (account.status, earlier if metadata is None else metadata)

    def add_hold(self, hold: Hold, expires_at_us: int | None) -> None:
        """Adds the hold's row. `end_hold` adds another row; this one never changes."""
        hold.batch = self.batch
        self.lines["holds"].append(
            f"{hold.id}\t{hold.account}\t{hold.asset}\t{hold.amount}\t{hold.destination or NULL}\t{hold.operation}\t"
            f"{NULL if expires_at_us is None else expires_at_us}\t{self.partition}\t{self.batch}\n"
        )

    def end_hold(self, hold: Hold, ended: str, operation: str) -> None:
        """Adds the row that ends the hold. `ended` is "captured" or "voided"."""
        hold.ended = ended
        hold.batch = self.batch
        self.lines["hold_ends"].append(f"{hold.id}\t{ended}\t{operation}\t{self.partition}\t{self.batch}\n")

    def send(self, destination: Partition, credit: TransitCredit) -> None:
        """Queues a credit for another partition; `add_transit_rows` writes it."""
        self.outgoing.setdefault(destination, []).append(credit)
        sent = self.sent.setdefault(destination, {})
        sent[credit.asset] = sent.get(credit.asset, 0) + credit.amount

    def settle(self, source: Partition, source_batch: int, amounts: Sequence[tuple[AssetCode, int]]) -> None:
        """Records that the transit row of that batch was taken in, and what it carried, in minor units."""
        taken_in = self.incoming.setdefault(source, {})
        for asset, amount in amounts:
            taken_in[asset] = taken_in.get(asset, 0) + amount
        self.lines["settlements"].append(f"{source}\t{source_batch}\t{self.partition}\t{self.batch}\n")

    def add_transit_rows(self) -> None:
        """Adds one row for each partition that this batch sends credits to."""
        for destination in sorted(self.outgoing):
            credits = encode_credits(self.outgoing[destination])
            self.lines["transit"].append(copy_line(f"{self.partition}", f"{self.batch}", f"{destination}", credits))

    def seal(self, epoch: int, cursors: str) -> SealedBatch:
        """The batch as it is committed. Nothing may be added after this."""
        return SealedBatch(
            self.partition,
            self.batch,
            epoch,
            self.lines,
            self.assets,
            self.account_changes,
            cursors,
            content_hash(self._lines_as_hashed()),
            self.operations,
            sorted(self.outgoing),
            self._listed(),
        )

    def _listed(self) -> list[list[str]]:
        operations = [(row.id, ListedOperation(row.kind, row.reference, row.assets)) for row in self.operations]
        return list_batch(operations, self.entered, self.landed).rows(self.partition, self.batch)

    def _lines_as_hashed(self) -> Mapping[str, Sequence[str]]:
        """The lines in the order of the hash, without the columns that it leaves out."""
        lines = self.lines
        return {
            **lines,
            "accounts": sorted(line.rsplit("\t", 2)[0] + "\n" for line in lines["accounts"]),
            "settlements": sorted(lines["settlements"], key=_settlement_order),
            "holds": sorted(lines["holds"]),
            "hold_ends": sorted(lines["hold_ends"]),
        }


TABLES = ("accounts", "operations", "entries", "transit", "settlements", "holds", "hold_ends")


def _settlement_order(line: str) -> tuple[int, int]:
    source, source_batch, _ = line.split("\t", 2)
    return int(source), int(source_batch)
