"""Applies commands: loads what they need into memory, then has the core decide them one by one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.core.accounts import AccountFacts, Status, asset_of_system_account, is_system_name
from services.ledger_worker.core.decide import decide, needed_accounts
from services.ledger_worker.core.metadata import KnownMetadata
from services.ledger_worker.core.outcomes import CommandContext, Decision
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.engine.group import CommitGroup
from services.ledger_worker.engine.intake import PendingDelivery
from services.ledger_worker.engine.ownership import OwnedPartitions
from services.ledger_worker.engine.poison import PoisonIsolation
from services.ledger_worker.ports import Clock, DecideAgain, Store
from shared.domain.ids import AccountId, AssetCode, HoldId, partition_of
from shared.domain.lifecycle import InvariantBroken
from shared.domain.rejections import Rejection
from shared.messages import (
    AccountCreate,
    AccountUpdate,
    AssetCreate,
    Command,
    HoldCapture,
    HoldPlace,
    HoldVoid,
    PostTransaction,
)
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()

# For so long after a failed commit, every id is looked up before it is decided, since a repeat may have caused it.
LOOK_UP_AFTER_REPEAT_S: Final = 5.0


class Prefetch:
    """Reads accounts, facts of accounts in other partitions, holds, assets and known outcomes.

    All missing accounts come from one query. Accounts that do not exist are not cached; each use asks again.
    """

    def __init__(self, store: Store, owned: OwnedPartitions, clock: Clock) -> None:
        self._store = store
        self._owned = owned
        self._ledger = owned.ledger
        self._clock = clock
        self._look_up_until_s = -math.inf

    def look_up_ids(self) -> None:
        """For LOOK_UP_AFTER_REPEAT_S from now, looks every id up before it is decided."""
        self._look_up_until_s = self._clock.monotonic_s() + LOOK_UP_AFTER_REPEAT_S

    async def assets(self) -> None:
        """Reads all assets again, which drops those that were never committed."""
        self._ledger.assets = await self._store.assets()

    async def know_assets(self, codes: Iterable[AssetCode]) -> None:
        """Reads all assets again unless these are in memory: another worker may have created one since."""
        if any(code not in self._ledger.assets for code in codes):
            # An update, not a replacement: an asset in memory may not be committed yet.
            self._ledger.assets.update(await self._store.assets())

    async def accounts(self, partition: PartitionState, wanted: Iterable[AccountId]) -> None:
        """Loads those of `wanted`, all owned by this partition, that are not in memory. Raises StoreUnavailable."""
        await self._load_accounts(
            {account: partition for account in wanted if account not in partition.accounts}, set()
        )

    async def for_commands(self, taken: Sequence[PendingDelivery]) -> None:
        """Loads everything that these commands need. Raises StoreUnavailable.

        If a partition is lost meanwhile, `is_stale` is set, and the caller discards what was loaded and decided for it.
        """
        own: dict[AccountId, PartitionState] = {}
        foreign: set[AccountId] = set()
        holds: list[tuple[PartitionState, HoldId]] = []
        assets: set[AssetCode] = set()
        to_look_up: list[str] = []
        patched = self._patched(taken)
        look_up_all = self._clock.monotonic_s() < self._look_up_until_s
        for pending in taken:
            partition = self._owned.states[pending.delivery.partition]
            for command in pending.commands:
                self._want_accounts(partition, command, own, foreign)
                if (
                    look_up_all or pending.delivery.redelivered or command.repeat
                ) and command.id not in self._ledger.recent:
                    to_look_up.append(command.id)
                if isinstance(command, HoldPlace | HoldCapture | HoldVoid) and command.hold not in partition.holds:
                    holds.append((partition, command.hold))
                assets.update(_named_assets(command))
        await self.know_assets(assets.union(_system_assets(own), _system_assets(foreign)))
        if to_look_up:
            # A repeat that is not looked up violates the key of `operations` at the commit.
            known = await self._store.known(to_look_up)
            metrics.DUPLICATES.labels("looked_up").inc(len(known))
            self._ledger.recent.update(known)
        await self._load_accounts(own, {account for account in foreign if not is_system_name(account)})
        if holds:
            await self._load_holds(holds)
        if patched:
            await self._load_metadata(patched)

    def _want_accounts(
        self,
        partition: PartitionState,
        command: Command,
        own: dict[AccountId, PartitionState],
        foreign: set[AccountId],
    ) -> None:
        for account in needed_accounts(command):
            if account in partition.accounts:
                continue
            if partition_of(account, self._ledger.partitions) == partition.partition:
                own[account] = partition
            elif account not in self._ledger.facts:
                foreign.add(account)

    async def _load_accounts(self, own: Mapping[AccountId, PartitionState], foreign: set[AccountId]) -> None:
        if not own and not foreign:
            return
        for read in await self._store.accounts(list(own.keys() | foreign)):
            partition = own.get(read.id)
            if partition is not None:
                # An account already in memory is newer than the committed state just read.
                partition.accounts.setdefault(read.id, read)
            if read.id in foreign:
                self._ledger.facts[read.id] = AccountFacts(read.asset, read.status is Status.CLOSED)

    def _patched(self, taken: Sequence[PendingDelivery]) -> dict[AccountId, PartitionState]:
        """The accounts whose metadata these commands change in parts, each with its partition."""
        return {
            command.account: self._owned.states[pending.delivery.partition]
            for pending in taken
            for command in pending.commands
            if isinstance(command, AccountUpdate) and command.metadata_patch is not None
        }

    async def _load_metadata(self, wanted: Mapping[AccountId, PartitionState]) -> None:
        found = await self._store.metadata(sorted(wanted))
        for account, partition in wanted.items():
            # What is in memory already is newer than the committed state just read.
            partition.metadata.setdefault(account, KnownMetadata(found.get(account)))

    async def _load_holds(self, wanted: Sequence[tuple[PartitionState, HoldId]]) -> None:
        found = {hold.id: hold for hold in await self._store.holds(sorted({hold for _, hold in wanted}))}
        for partition, hold in wanted:
            if hold in found:
                # A copy for each partition that asks: only in that of the hold's account can it change.
                partition.holds.setdefault(hold, replace(found[hold]))


def _named_assets(command: Command) -> tuple[AssetCode, ...]:
    if isinstance(command, PostTransaction):
        [posting] = command.postings
        return (posting.asset,)
    return (command.asset,) if isinstance(command, AccountCreate | HoldPlace | AssetCreate) else ()


def _system_assets(accounts: Iterable[AccountId]) -> set[AssetCode]:
    return {asset_of_system_account(account) for account in accounts if is_system_name(account)}


class Apply:
    """Has the core decide the commands of deliveries, and isolates a command that makes it raise."""

    def __init__(self, owned: OwnedPartitions, poison: PoisonIsolation, clock: Clock) -> None:
        self._owned = owned
        self._poison = poison
        self._clock = clock

    def apply(self, pending: PendingDelivery, group: CommitGroup) -> None:
        """Adds a decision for each command of a delivery to the group. Raises DecideAgain when one breaks the core."""
        partition = self._owned.states[pending.delivery.partition]
        reply_to = pending.delivery.reply_to
        context = CommandContext(reply_to, self._clock.now_ns() // 1_000)
        for command in pending.commands:
            reason = self._poison.reason(command) if self._poison.is_active else None
            decision: Decision | None
            if reason is not None and command.id not in partition.ledger.recent:
                group.poisoned.append((pending, command.id, reason))
                decision = self._poison.reject(partition, command)
            else:
                decision = self._decide(partition, command, context)
                if decision.replayed and decision.code is Rejection.INTERNAL_ERROR and pending.delivery.redelivered:
                    # Its dead letter may not have been confirmed before the delivery came again.
                    group.poisoned.append((pending, command.id, f"command {command.id} was rejected: internal_error"))
            if decision is not None:
                group.decisions.append((partition.partition, reply_to, decision))

    def _decide(self, partition: PartitionState, command: Command, context: CommandContext) -> Decision:
        try:
            if command.id not in partition.ledger.recent:  # a repeat has its outcome, and cannot be poison
                fault_point(FaultPoint.WORKER_IN_CORE)
            return decide(partition, command, context)
        except InvariantBroken:
            raise
        except Exception as error:
            # Accounts may be half changed: drop all that is not committed, and decide again without this command.
            self._poison.accuse(command, f"the core raised {error!r}")
            log.exception("command.poisoned", operation_id=command.id)
            raise DecideAgain("the core raised") from error
