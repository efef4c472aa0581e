"""What all use cases share: the connections, the caches and the metrics of one gateway."""

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from services.gateway.metrics import Metrics
from services.gateway.store.assets import AssetFacts, read_asset
from services.gateway.store.database import Database
from services.gateway.store.dead_letters import DeadLetterQueue
from services.gateway.store.outcomes import OutcomeReads
from services.gateway.usecases.dependencies import Dependencies
from services.gateway.usecases.instants import Instants
from shared.domain.ids import CommandId, CommandIds
from shared.ledger_client.client import LedgerClient

ASSETS_KNOWN_MAX: Final = 10_000
KEYS_RECENT_MAX: Final = 20_000


class UnknownAsset(Exception):
    """There is no asset of this code."""


class Assets:
    """A cache of assets. They never change, so it never expires; one that was not found is read again each time."""

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
    """Ids of the newest commands with an idempotency key that this gateway has sent: a hint that one is a repeat."""

    def __init__(self) -> None:
        self._seen: dict[CommandId, None] = {}

    def __contains__(self, command: CommandId) -> bool:
        """Whether a command with this id was sent lately. False proves nothing: another gateway may have sent it."""
        return command in self._seen

    def note(self, command: CommandId) -> None:
        """Remembers the id of a command that is about to be sent; forgets the oldest ones."""
        self._seen[command] = None
        if len(self._seen) > KEYS_RECENT_MAX:
            for oldest in list(islice(self._seen, KEYS_RECENT_MAX // 10)):
                del self._seen[oldest]


@dataclass(slots=True, eq=False)
class Stopping:
    """Ends long waits when the gateway stops, so that clients get an answer before their connection closes."""

    waits: set[asyncio.Timeout] = field(default_factory=set[asyncio.Timeout])
    has_begun: bool = False

    def begin(self) -> None:
        """Ends every long wait at once, as if its time were up."""
        self.has_begun = True
        now_s = asyncio.get_running_loop().time()
        for wait in self.waits:
            wait.reschedule(now_s)


@dataclass(slots=True, eq=False)
class AppState:
    """The parts of one gateway that know nothing of HTTP. `reserved`: connections that no request uses up."""

    database: Database
    reserved: Database
    ledger: LedgerClient
    ids: CommandIds
    dead_letters: DeadLetterQueue
    metrics: Metrics = field(default_factory=Metrics)
    assets: Assets = field(init=False)
    dependencies: Dependencies = field(init=False)
    instants: Instants = field(init=False)
    outcomes: OutcomeReads = field(init=False)
    recent: RecentKeys = field(default_factory=RecentKeys)
    stopping: Stopping = field(default_factory=Stopping)

    def __post_init__(self) -> None:
        self.assets = Assets(self.database)
        self.instants = Instants(self.database)
        self.outcomes = OutcomeReads(self.database)
        self.dependencies = Dependencies(self.reserved, self.ledger)
        self.metrics.watch(self.ledger)
