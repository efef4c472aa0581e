"""How a transfer on the network is made: written down as an intent, sent once, and looked for in the network's list.

The network knows neither ids nor idempotency. What became of a transfer is read, never assumed.
"""

import asyncio
import uuid
from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar, Final, TypeVar

import structlog
from prometheus_client import Counter, Gauge
from typing_extensions import override

from shared.domain.lifecycle import InvariantBroken
from shared.mixer.claimed_rows import ClaimedRow, ClaimLost, Leg
from shared.mixer.jobcoin import JobcoinNetwork, TransferRefused, TransferUnknown
from shared.mixer.jobcoin_rows import Address, Transfer
from shared.mixer.ledger import MixerLedger
from shared.mixer.settings import MixerSettings
from shared.mixer.step_loop import BACKOFF_S_MAX, ClaimDeadline, StepLoop
from shared.mixer.store import EqualTransferOpen, IntentStore
from shared.runtime.fault_points import FaultPoint, fault_point
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

TRANSFERS_ENDED: Final = Counter(
    "mixer_transfers_ended",
    "Transfers whose end was read from the list, by leg and by what it showed",
    ["leg", "ended"],
)
UNKNOWN_OPEN: Final = Gauge("mixer_unknown_open", "Transfers that may have been sent, and have not been seen")
# An intent that took longer to write is not sent, but looked for. The settle time is longer than this and a call.
SEND_WITHIN_S: Final = 2.0
# How long to wait at least before an undecided transfer is looked for again.
UNDECIDED_WAIT_S_MIN: Final = 0.1

R = TypeVar("R", bound=ClaimedRow)


class TransferLoop(StepLoop[R]):
    """A StepLoop whose rows send transfers.

    `fault_points`: where tests let the process die: after the intent, after the transfer was sent, once it is seen.
    """

    fault_points: ClassVar[tuple[FaultPoint, FaultPoint, FaultPoint]]

    def __init__(
        self, network: JobcoinNetwork, ledger: MixerLedger, store: IntentStore[R], settings: MixerSettings
    ) -> None:
        super().__init__(ledger, store, settings)
        self._network = network
        self._intents = store
        self._house = Address(settings.house_address)
        self._after_intent, self._after_send, self._after_seen = self.fault_points

    @override
    async def set_gauges(self) -> None:
        await super().set_gauges()
        UNKNOWN_OPEN.set(await self._intents.intents_open())

    @abstractmethod
    def transfer(self, row: R, leg: Leg) -> Transfer:
        """What this leg of the row moves."""

    def under_way(self, row: R, leg: Leg, intent_id: str) -> R:  # noqa: ARG002 - a subclass keeps the id
        """The row once the intent of this id is committed."""
        return replace(row, state=leg.under_way)

    async def send(self, row: R, leg: Leg, deadline: ClaimDeadline, *, is_listed: bool = False) -> R | None:
        """Writes the intent, sends the transfer once, and reads what became of it.

        `is_listed`: the list has an equal transfer that no intent stands for, so nothing is sent.

        Returns the row after its step, or None if it was released. Raises NetworkUnavailable and ClaimLost.
        """
        intent_id = str(uuid.uuid4())
        under_way = self.under_way(row, leg, intent_id)
        transfer = self.transfer(under_way, leg)
        send_until_s = asyncio.get_running_loop().time() + SEND_WITHIN_S
        try:
            await self._intents.open_intent(row, under_way, intent_id, leg, transfer, self._settings.settle_s)
        except EqualTransferOpen:
            await self._store.release(row, backoff_s(0), "an equal transfer is under way")
            return None
        fault_point(self._after_intent)
        deadline.check()
        if asyncio.get_running_loop().time() > send_until_s:
            raise ClaimLost("the intent was written too long ago: the settle time counts from there")
        was_refused = not is_listed and await self._is_refused(row, leg, transfer)
        fault_point(self._after_send)
        return await self.read_end(under_way, leg, was_refused=was_refused)

    async def read_end(self, row: R, leg: Leg, *, was_refused: bool = False) -> R | None:
        """Looks for the row's open transfer at one of its addresses, and takes the step that follows from it.

        Returns and raises as `send`. `was_refused`: the network said that it did not apply the transfer.
        """
        intent = await self._intents.read_intent(row)
        if intent is None:
            raise InvariantBroken(f"{self._kind} {row.id} is {row.state} without an intent")
        transfer = self.transfer(row, leg)
        view = await self._network.address(transfer.source if leg.is_read_at_source else transfer.destination)
        listed = view.find(transfer, await self._intents.taken_rows(transfer))
        # A reading that does not agree with itself proves nothing: it may show a transaction twice, or lack one.
        if listed is not None and view.agrees:
            fault_point(self._after_seen)
            ended, after = "seen", replace(row, state=leg.after, attempts=0)
        elif listed is None and view.agrees and (intent.settles_in_s <= 0 or was_refused):
            ended = "refused" if was_refused else "absent"
            after = replace(row, state=leg.before)
        else:
            wait_s = min(max(intent.settles_in_s, UNDECIDED_WAIT_S_MIN), backoff_s(2, s_max=BACKOFF_S_MAX))
            return await self._store.release(row, wait_s, f"the end of the {leg.name} is not known yet")
        after = await self._intents.end_intent(row, after, intent, ended, listed)
        TRANSFERS_ENDED.labels(leg.name, ended).inc()
        log.info("transfer.ended", kind=self._kind, id=row.id, leg=leg.name, ended=ended)
        if listed is not None:
            return after
        return await self.fail(after, f"the transfer ({leg.name}) was {ended}")

    async def _is_refused(self, row: R, leg: Leg, transfer: Transfer) -> bool:
        """Sends the transfer. True if the network said that it will not apply it."""
        try:
            await self._network.send(transfer)
        except TransferRefused as refusal:
            log.warning("transfer.refused", kind=self._kind, id=row.id, leg=leg.name, refusal=str(refusal))
            return True
        except TransferUnknown as fault:
            log.warning("transfer.unknown", kind=self._kind, id=row.id, leg=leg.name, fault=str(fault))
        return False
