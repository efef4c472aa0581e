"""Decides orders for mixes: each once, under the rules of every command (DESIGN §4.6)."""

import asyncio
from collections.abc import Callable

import structlog

from services.deposit_poller import metrics
from services.deposit_poller.core.destinations import USED, refusal_of
from services.deposit_poller.store.mixes import MixStore
from shared.faults import FaultPoint, fault_point
from shared.jobcoin import JobcoinNetwork
from shared.jobcoin_rows import Address
from shared.messages import FieldError, MixCreate, Outcome
from shared.messages.mixer import mix_id
from shared.mixer_ledger import MixerLedger
from shared.rejections import Rejection

log = structlog.get_logger()


class OrderUndecided(Exception):
    """The journal does not hold the order's outcome yet."""


class OrderDesk:
    """Makes mixes. The journal arbitrates: a mix's order is an operation of the ledger like any other (ADR 9)."""

    def __init__(
        self,
        network: JobcoinNetwork,
        ledger: MixerLedger,
        mixes: MixStore,
        house: Address,
        made: Callable[[], None],
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._mixes = mixes
        self._house = house
        self._made = made

    async def decide(self, order: MixCreate) -> Outcome:
        """The outcome, once the journal has it.

        Raises NetworkUnavailable, OrderUndecided, or what is in db.TRANSIENT_FAULTS: it may be decided later.
        """
        outcome = await self._ledger.outcome_of_order(order)
        if outcome is not None:
            metrics.MIXES.labels("replayed").inc()
            is_reused = outcome.code is Rejection.IDEMPOTENCY_KEY_REUSED
            return outcome.model_copy(update={"replayed": not is_reused})
        errors = await self._errors(order)
        asked = order
        if not errors:
            # Where another content was here first under this id, the ledger is asked about that: it decides this, too.
            asked = order.model_copy(update={"fingerprint": await self._mixes.write_order(order)})
            fault_point(FaultPoint.POLLER_AFTER_ORDER_WRITTEN)
        await self._ledger.order(asked, errors)
        outcome = await self._ledger.outcome_of_order(order)
        if outcome is None:
            raise OrderUndecided("the ledger has not answered")
        self._made()
        metrics.MIXES.labels(outcome.code or outcome.status).inc()
        log.info("order.decided", operation_id=order.id, mix_id=mix_id(order.id), code=outcome.code)
        return outcome

    async def _errors(self, order: MixCreate) -> tuple[FieldError, ...]:
        destinations = order.destinations
        ours = {self._house, *await self._mixes.mixes_at(destinations)}
        refusals = [refusal_of(destinations, index, ours) for index in range(len(destinations))]
        async with asyncio.TaskGroup() as group:
            looks = {
                index: group.create_task(self._network.address(Address(destinations[index])))
                for index, refusal in enumerate(refusals)
                if refusal is None
            }
        for index, look in looks.items():
            if not look.result().is_unused:
                refusals[index] = USED
        return tuple(
            FieldError(field=f"destinations[{index}]", message=message)
            for index, message in enumerate(refusals)
            if message is not None
        )
