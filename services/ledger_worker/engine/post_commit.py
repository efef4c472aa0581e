"""What follows the commit of a group: replies, dead letters, acknowledgements, nudges and events."""

from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.core.batch import OperationRow
from services.ledger_worker.core.outcomes import Decision
from services.ledger_worker.core.transit import LandedCredit
from services.ledger_worker.engine.dead_letters import DeadLetters, OutgoingDeadLetter
from services.ledger_worker.engine.group import CommitGroup
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.engine.ownership import OwnedPartitions
from services.ledger_worker.ports import Publisher
from shared.domain.ids import Partition
from shared.messages import BatchEvent, EventOutcome, Outcome, Reply, Settled
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()


class PostCommit:
    """Nothing here may be called before the group, and every group that it builds on, is committed.

    `recorded_at_us`: when each of the group's batches was recorded, in microseconds since 1970 UTC.
    """

    def __init__(self, owned: OwnedPartitions, inbox: Inbox, publisher: Publisher, dead_letters: DeadLetters) -> None:
        self._owned = owned
        self._inbox = inbox
        self._publisher = publisher
        self._dead_letters = dead_letters

    async def reply(self, group: CommitGroup, recorded_at_us: Mapping[Partition, int]) -> None:
        """Sends the replies, first of all, since clients wait. If one is lost, its outcomes are in the journal."""
        for reply_to, reply in _replies(group, recorded_at_us).items():
            await self._publisher.reply(reply_to, reply)
        fault_point(FaultPoint.WORKER_AFTER_ANSWER)

    async def finish(self, group: CommitGroup, recorded_at_us: Mapping[Partition, int]) -> None:
        """Hands over dead letters and acknowledgements, and sends nudges and events."""
        self._settle_deliveries(group)
        for batch in group.sealed:
            for destination in batch.transit_to:
                if destination in self._owned.states:
                    self._inbox.nudge(batch.partition, destination, batch.batch)
                else:
                    await self._publisher.nudge(batch.partition, destination, batch.batch)
            event = _event(batch.batch, recorded_at_us[batch.partition], batch.operations)
            self._publisher.announce(batch.partition, event)
        _count(group)

    def _settle_deliveries(self, group: CommitGroup) -> None:
        """If a partition was given up since, its deliveries come again, and its next owner settles them."""
        letters = [
            OutgoingDeadLetter(pending, pending.refused, "unreadable")
            for pending in group.deliveries
            if pending.refused is not None
        ]
        letters += [OutgoingDeadLetter(pending, reason, "poison") for pending, _, reason in group.poisoned]
        for letter in letters:
            if letter.pending.delivery.partition in self._owned.states:
                self._dead_letters.add(letter)
        for pending in group.deliveries:
            if pending.is_last_part and pending.delivery.partition in self._owned.states:
                self._dead_letters.acknowledge(pending)


def _replies(group: CommitGroup, recorded_at_us: Mapping[Partition, int]) -> dict[str, Reply]:
    """One reply for each reply queue, with all outcomes and settlements of the group for that sender."""
    outcomes: dict[str, list[Outcome]] = {}
    settled: dict[str, list[Settled]] = {}
    for partition, reply_to, decision in group.decisions:
        if reply_to is not None:
            outcomes.setdefault(reply_to, []).append(_outcome(decision, recorded_at_us.get(partition, 0)))
    for partition, landed in group.landed:
        if landed.credit.reply_to is not None:
            settled.setdefault(landed.credit.reply_to, []).append(_settled(partition, landed))
    return {
        reply_to: Reply(outcomes=tuple(outcomes.get(reply_to, ())), settled=tuple(settled.get(reply_to, ())))
        for reply_to in outcomes.keys() | settled.keys()
    }


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


def _settled(partition: Partition, landed: LandedCredit) -> Settled:
    return Settled(
        id=landed.credit.operation,
        partition=int(partition),
        account=landed.credit.account,
        balance=landed.balance,
        returned=landed.is_returned,
    )


def _event(batch: int, recorded_at_us: int, rows: Sequence[OperationRow]) -> BatchEvent:
    outcomes = tuple(
        EventOutcome(
            id=row.id,
            kind=row.kind,
            status="posted" if row.code is None else "rejected",
            code=row.code,
            accounts=row.accounts,
        )
        for row in rows
    )
    return BatchEvent(batch=batch, recorded_at_us=recorded_at_us, outcomes=outcomes)


def _count(group: CommitGroup) -> None:
    codes: Counter[str] = Counter()
    for _, _, decision in group.decisions:
        if decision.replayed:
            metrics.DUPLICATES.labels("repeat").inc()
            continue
        codes[decision.code or "posted"] += 1
        if decision.code is not None:
            log.info("command.rejected", operation_id=decision.id, code=decision.code)
    for code, count in codes.items():
        metrics.COMMANDS.labels(code).inc(count)
    log.debug("batch.committed", commands=len(group.decisions), batches=len(group.sealed))
