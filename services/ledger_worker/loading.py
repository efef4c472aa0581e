"""Brings into memory what the next decisions need: accounts, facts of accounts elsewhere, holds, assets.

Known operations.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.core.accounts import is_system_name
from services.ledger_worker.core.decide import needed_accounts
from services.ledger_worker.core.line import Line, World
from services.ledger_worker.intake import Opened
from services.ledger_worker.ports import Clock, Store
from shared.ids import AccountId, HoldId, Partition
from shared.messages import AccountCreate, AssetCreate, Command, HoldCapture, HoldPlace, HoldVoid, Move

log = structlog.get_logger()

# For this long after a repeat was found by its key, ids are looked up before they are decided.
LOOK_UP_AFTER_REPEAT_S: Final = 5.0


class Loading:
    """One query for all accounts that are missing; a miss is never remembered."""

    def __init__(self, store: Store, world: World, lines: Mapping[Partition, Line], clock: Clock) -> None:
        self._store = store
        self._world = world
        self._lines = lines
        self._clock = clock
        self._look_up_until_s = -math.inf

    def look_up(self) -> None:
        """For some seconds every id is looked up before it is decided."""
        self._look_up_until_s = self._clock.monotonic_s() + LOOK_UP_AFTER_REPEAT_S

    async def assets(self) -> None:
        """Reads the assets anew."""
        self._world.assets = await self._store.assets()

    async def for_commands(self, taken: Sequence[Opened]) -> None:
        """Everything that the commands taken will ask for. Raises StoreUnavailable.

        Until no line has begun or ended meanwhile: in one for which nothing was loaded no account would exist, and what
        was loaded into one that has ended is gone.
        """
        loaded: Mapping[Partition, Line] | None = None
        while loaded != self._lines:
            loaded = dict(self._lines)
            await self._for_commands(taken)

    async def _for_commands(self, taken: Sequence[Opened]) -> None:
        wanted: dict[AccountId, Partition] = {}
        holds: dict[HoldId, Partition] = {}
        unknown_asset = False
        for opened in taken:
            for partition, command in opened.commands:
                line = self._lines.get(partition)
                if line is None:
                    continue
                self._want(line, command, wanted, holds)
                unknown_asset = unknown_asset or self._asks_unknown_asset(command)
        if unknown_asset:
            await self.assets()
        await self._known(taken, everything=self._clock.monotonic_s() < self._look_up_until_s)
        await self._load(wanted)
        if holds:
            await self._load_holds(holds)

    async def accounts(self, line: Line, wanted: Iterable[AccountId]) -> None:
        """Those of `wanted` that are missing in the line."""
        await self._load({account: line.partition for account in wanted if account not in line.accounts})

    def _want(
        self,
        line: Line,
        command: Command,
        wanted: dict[AccountId, Partition],
        holds: dict[HoldId, Partition],
    ) -> None:
        for account in needed_accounts(command):
            partition = self._world.partition_of(account)
            there = line if partition == line.partition else self._lines.get(partition)
            if there is not None:
                if account not in there.accounts:
                    wanted[account] = partition
            elif account not in self._world.facts and not is_system_name(account):
                wanted[account] = partition
        if isinstance(command, HoldPlace | HoldCapture | HoldVoid) and command.hold not in line.holds:
            holds[command.hold] = line.partition

    def _asks_unknown_asset(self, command: Command) -> bool:
        return (
            isinstance(command, Move | AccountCreate | HoldPlace | AssetCreate)
            and command.asset not in self._world.assets
        )

    async def _load(self, wanted: Mapping[AccountId, Partition]) -> None:
        if not wanted:
            return
        lines = dict(self._lines)
        for read, partition in await self._store.accounts(list(wanted)):
            line = self._lines.get(partition)
            if line is None or line is not lines.get(partition):
                # Of a line that has begun since, this may be older than where it begins.
                self._world.learn(read)
            else:
                # In memory already: that is newer than what the database has committed.
                self._world.learn(line.accounts.setdefault(read.id, read))

    async def _load_holds(self, wanted: Mapping[HoldId, Partition]) -> None:
        lines = dict(self._lines)
        for hold in await self._store.holds(list(wanted)):
            line = self._lines.get(wanted[hold.id])
            if line is not None and line is lines.get(wanted[hold.id]):
                line.holds.setdefault(hold.id, hold)

    async def _known(self, taken: Sequence[Opened], *, everything: bool) -> None:
        """Looks up ids that were probably seen before; the key of `operations` finds those that were not suspected."""
        suspected = [
            command.id
            for opened in taken
            for _, command in opened.commands
            if (everything or opened.inbound.redelivered or command.repeat) and command.id not in self._world.recent
        ]
        if suspected:
            known = await self._store.known(suspected)
            metrics.DUPLICATES.labels("looked_up").inc(len(known))
            self._world.recent.update(known)
