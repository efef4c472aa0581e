"""What every handler has at hand."""

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from services.gateway.auth import Keychain
from services.gateway.dependencies import Broker, Dependencies
from services.gateway.metrics import Counted, Metrics
from services.gateway.problems import Fault, Refusal
from services.gateway.settings import GatewaySettings
from services.gateway.store.assets import AssetFacts, read_asset
from services.gateway.store.database import Database
from services.gateway.web.cursors import Cursors
from shared.ids import CommandId, CommandIds, Partition
from shared.messages import Command, MixCreate
from shared.rejections import Rejection
from shared.sending import Answer as LedgerAnswer
from shared.sending import Sent

ASSETS_KNOWN_MAX: Final = 10_000
KEYS_RECENT_MAX: Final = 20_000


class Ledger(Broker, Counted, Protocol):
    """What the gateway needs of `shared.ledger_client.LedgerClient`."""

    partitions: int

    def send(self, command: Command, partition: Partition) -> Sent:
        """Puts the command into its partition's line, or joins the same one."""
        ...

    def send_order(self, order: MixCreate) -> Sent:
        """The same for the mixer."""
        ...

    async def answer(self, sent: Sent, timeout_s: float) -> LedgerAnswer | None:
        """Waits for the outcome and its legs."""
        ...


class Assets:
    """Assets never change once they are there, so those that were read stay known; a miss is read again."""

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
        """Fraction digits of the asset. Raises Refusal `unknown_asset`, or DatabaseUnavailable."""
        known = self._known.get(code) or await self.find(code)
        if known is None:
            raise Refusal(Rejection.UNKNOWN_ASSET, f"there is no asset {code}")
        return known.scale


class RecentKeys:
    """Ids of commands with a key that this gateway has sent, the newest only: a hint, never an answer."""

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
    """Ends long waits when the gateway stops, so that those who wait get an answer before the connection closes."""

    waits: set[asyncio.Timeout] = field(default_factory=set[asyncio.Timeout])
    begun: bool = False

    def begin(self) -> None:
        """Lets everybody who waits go on at once."""
        self.begun = True
        now = asyncio.get_running_loop().time()
        for wait in self.waits:
            wait.reschedule(now)


@dataclass(slots=True, eq=False)
class Gateway:
    """One gateway's parts."""

    settings: GatewaySettings
    database: Database
    ledger: Ledger
    ids: CommandIds
    keys: Keychain
    assets: Assets
    cursors: Cursors
    metrics: Metrics
    openapi: bytes = b""
    recent: RecentKeys = field(default_factory=RecentKeys)
    stopping: Stopping = field(default_factory=Stopping)
    dependencies: Dependencies = field(init=False)

    def __post_init__(self) -> None:
        self.dependencies = Dependencies(self.database, self.ledger)

    @property
    def partitions(self) -> int:
        """P of this ledger."""
        return self.ledger.partitions


def not_found(what: str) -> Refusal:
    """For what is not there, or not the caller's."""
    return Refusal(Fault.NOT_FOUND, f"there is no such {what}")
