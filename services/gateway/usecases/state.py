"""What every use case works with."""

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from services.gateway.metrics import ClientCounts, Metrics
from services.gateway.store.assets import AssetFacts, read_asset
from services.gateway.store.database import Database
from services.gateway.usecases.dependencies import Broker, Dependencies
from shared.domain.ids import CommandId, CommandIds, Partition
from shared.ledger_client.pending import CommandResult, PendingCommand
from shared.messages import Command, MixCreate

ASSETS_KNOWN_MAX: Final = 10_000
KEYS_RECENT_MAX: Final = 20_000


class Ledger(Broker, ClientCounts, Protocol):
    """What the gateway needs of `LedgerClient`."""

    partitions: int

    def send(self, command: Command, partition: Partition) -> PendingCommand:
        """Queues the command for its partition, or joins the same one."""
        ...

    def send_order(self, order: MixCreate) -> PendingCommand:
        """As `send`, for the mixer."""
        ...

    async def result(self, pending: PendingCommand, timeout_s: float) -> CommandResult | None:
        """Waits for the outcome and for credits in other partitions."""
        ...


class UnknownAsset(Exception):
    """There is no asset of this code."""


class Assets:
    """A cache. Assets never change, so those that were read stay known; an unknown one is read again each time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, AssetFacts] = {}

    async def find(self, code: str) -> AssetFacts | None:
        """The asset, if there is one. Raises DatabaseUnavailable."""
        known = self._known.get(code)
        if known is None:
            known = await read_asset(self._database, code)
            if known is not None and len(self._known) < ASSETS_KNOWN_MAX:
                self._known[code] = known
        return known

    async def scale(self, code: str) -> int:
        """The asset's number of fraction digits. Raises UnknownAsset, or DatabaseUnavailable."""
        known = self._known.get(code) or await self.find(code)
        if known is None:
            raise UnknownAsset(f"there is no asset {code}")
        return known.scale


class RecentKeys:
    """Ids of keyed commands that this gateway has sent, the newest only: a hint that a command repeats another."""

    def __init__(self) -> None:
        self._seen: dict[CommandId, None] = {}

    def note(self, command: CommandId) -> bool:
        """Whether the id was seen before."""
        if command in self._seen:
            return True
        self._seen[command] = None
        if len(self._seen) > KEYS_RECENT_MAX:
            for oldest in list(islice(self._seen, KEYS_RECENT_MAX // 10)):
                del self._seen[oldest]
        return False


@dataclass(slots=True, eq=False)
class Stopping:
    """Ends long waits when the gateway stops, so that clients get an answer before their connection closes."""

    waits: set[asyncio.Timeout] = field(default_factory=set[asyncio.Timeout])
    has_begun: bool = False

    def begin(self) -> None:
        """Lets everybody who waits go on at once."""
        self.has_begun = True
        now_s = asyncio.get_running_loop().time()
        for wait in self.waits:
            wait.reschedule(now_s)


@dataclass(slots=True, eq=False)
class AppState:
    """The parts of one gateway that know nothing of HTTP."""

    database: Database
    ledger: Ledger
    ids: CommandIds
    metrics: Metrics = field(default_factory=Metrics)
    assets: Assets = field(init=False)
    dependencies: Dependencies = field(init=False)
    recent: RecentKeys = field(default_factory=RecentKeys)
    stopping: Stopping = field(default_factory=Stopping)

    def __post_init__(self) -> None:
        self.assets = Assets(self.database)
        self.dependencies = Dependencies(self.database, self.ledger)
        self.metrics.watch(self.ledger)

    @property
    def partitions(self) -> int:
        """The number of partitions of the ledger."""
        return self.ledger.partitions
