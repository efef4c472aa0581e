"""One group commit: what was taken, what it was decided to be, and what must be told once it is in the journal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.ledger_worker.core.decide import Decision
from services.ledger_worker.core.draft import OperationRow
from services.ledger_worker.core.transit import Landed
from services.ledger_worker.intake import Opened
from services.ledger_worker.ports import Sealed, TransitRow
from shared.ids import Partition
from shared.messages import BatchEvent, Command, Outcome, Reply, Settled
from shared.messages.events import EventOutcome


@dataclass(frozen=True, slots=True, eq=False)
class Stray:
    """Commands of a delivery whose partition this worker does not own: their sender believed it did."""

    opened: Opened
    partition: Partition
    commands: Sequence[Command]


@dataclass(slots=True, eq=False)
class Group:
    """Open while the group before it is being committed; then sealed, committed, answered and acknowledged."""

    deliveries: list[Opened] = field(default_factory=list[Opened])
    # Decisions with their sender and the partition that decided; landed credits with the partition they landed in.
    decisions: list[tuple[str | None, Partition, Decision]] = field(
        default_factory=list[tuple[str | None, Partition, Decision]]
    )
    landed: list[tuple[Partition, Landed]] = field(default_factory=list[tuple[Partition, Landed]])
    folded: list[TransitRow] = field(default_factory=list[TransitRow])  # from the journal
    sealed: list[Sealed] = field(default_factory=list[Sealed])
    rows: dict[Partition, list[OperationRow]] = field(default_factory=dict[Partition, list[OperationRow]])
    # Transit rows that this commit writes: source and destination.
    onward: list[tuple[Partition, Partition]] = field(default_factory=list[tuple[Partition, Partition]])
    cleared_credits: int = 0  # entered in another line than their debit
    strays: list[Stray] = field(default_factory=list[Stray])
    poisoned: list[tuple[Opened, str]] = field(default_factory=list[tuple[Opened, str]])
    began_s: float = 0.0

    @property
    def commands(self) -> int:
        """How many commands the group has decided."""
        return len(self.decisions)

    def partitions(self) -> set[Partition]:
        """Whose line the group touches."""
        return {
            *(opened.inbound.partition for opened in self.deliveries),
            *(partition for _, partition, _ in self.decisions),
            *(sealed.partition for sealed in self.sealed),
        }

    def replies(
        self, recorded_at_us: Mapping[Partition, int], worker: str, owned: Sequence[Partition]
    ) -> dict[str, Reply]:
        """One reply for each sender, which says as well what the worker owns."""
        outcomes: dict[str, list[Outcome]] = {}
        settled: dict[str, list[Settled]] = {}
        for partition, landed in self.landed:
            if landed.credit.reply_to is not None:
                settled.setdefault(landed.credit.reply_to, []).append(_settled(partition, landed))
        queues = {opened.inbound.reply_to: opened.inbound.partition for opened in self.deliveries}
        for reply_to, partition, decision in self.decisions:
            if reply_to is not None:
                outcome = _outcome(decision, recorded_at_us.get(partition, 0))
                outcomes.setdefault(reply_to, []).append(outcome)
        return {
            reply_to: Reply(
                v=1,
                outcomes=tuple(outcomes.get(reply_to, ())),
                settled=tuple(settled.get(reply_to, ())),
                worker=worker,
                owned=tuple(owned),
                queue=queues.get(reply_to),
            )
            for reply_to in outcomes.keys() | settled.keys()
        }

    def events(self, recorded_at_us: Mapping[Partition, int]) -> list[tuple[Partition, BatchEvent]]:
        """One event for each batch."""
        return [
            (
                sealed.partition,
                BatchEvent(
                    batch=sealed.batch,
                    recorded_at_us=recorded_at_us[sealed.partition],
                    outcomes=tuple(_event(row) for row in self.rows.get(sealed.partition, ())),
                ),
            )
            for sealed in self.sealed
        ]


def _settled(partition: Partition, landed: Landed) -> Settled:
    return Settled(
        id=landed.credit.operation,
        partition=int(partition),
        account=landed.credit.account,
        balance=landed.balance,
        returned=landed.returned,
    )


def _outcome(decision: Decision, recorded_at_us: int) -> Outcome:
    return Outcome(
        id=decision.id,
        fingerprint=decision.fingerprint,
        status="posted" if decision.code is None else "rejected",
        code=decision.code,
        replayed=decision.replayed,
        recorded_at_us=0 if decision.replayed else recorded_at_us,
        balances=dict(decision.balances),
        legs=decision.legs,
        available=decision.available,
        required=decision.required,
    )


def _event(row: OperationRow) -> EventOutcome:
    return EventOutcome(
        id=row.id,
        kind=row.kind,
        status="posted" if row.code is None else "rejected",
        code=row.code,
        accounts=row.accounts,
    )
