"""Decides orders for mixes: each once, by the rules for repeated commands."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from services.deposit_poller import metrics
from services.deposit_poller.core.destinations import USED, refusal_of
from services.deposit_poller.store.mixes import MixStore
from shared.database.postgres import TRANSIENT_FAULTS
from shared.domain.rejections import Rejection
from shared.messages import FieldFault, MixCreate, Outcome
from shared.messages.mixer import mix_id
from shared.mixer.jobcoin import JobcoinNetwork, NetworkUnavailable
from shared.mixer.jobcoin_rows import Address
from shared.mixer.ledger import MixerLedger
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()


class OrderUndecided(Exception):
    """The journal does not hold the order's outcome yet."""


# Faults of `OrderHandler.decide` after which the order is tried again.
UNDECIDED_FAULTS: Final = (NetworkUnavailable, OrderUndecided, *TRANSIENT_FAULTS)


class OrderHandler:
    """Makes mixes. The journal arbitrates: a mix's order is an operation of the ledger like any other (ADR 9)."""

    def __init__(
        self,
        network: JobcoinNetwork,
        ledger: MixerLedger,
        mixes: MixStore,
        house: Address,
        *,
        on_decided: Callable[[], None],
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._mixes = mixes
        self._house = house
        self._on_decided = on_decided

    async def decide(self, order: MixCreate) -> Outcome:
        """The outcome, once the journal has it. Raises what is in UNDECIDED_FAULTS, or a group of these."""
        outcome = await self._ledger.outcome_of_order(order)
        if outcome is not None:
            metrics.MIXES.labels("replayed").inc()
            is_reused = outcome.code is Rejection.IDEMPOTENCY_KEY_REUSED
            return outcome.model_copy(update={"replayed": not is_reused})
        errors = await self._errors(order)
        sent = order
        if not errors:
            # If an order with other content is already recorded under this id, the ledger has to decide that one. The
            # journal then says of this order that its key was reused.
            sent = order.model_copy(update={"fingerprint": await self._mixes.write_order(order)})
            fault_point(FaultPoint.POLLER_AFTER_ORDER_WRITTEN)
        await self._ledger.send_order(sent, errors)
        outcome = await self._ledger.outcome_of_order(order)
        if outcome is None:
            raise OrderUndecided("the journal has no outcome")
        self._on_decided()
        metrics.MIXES.labels(outcome.code or outcome.status).inc()
        log.info("order.decided", operation_id=order.id, mix_id=mix_id(order.id), code=outcome.code)
        return outcome

    async def _errors(self, order: MixCreate) -> tuple[FieldFault, ...]:
        """Why destinations cannot be paid to. The network is asked about those that have no other fault."""
        destinations = order.destinations
        ours = {self._house, *await self._mixes.mixes_at(destinations)}
        refusals = [refusal_of(destinations, index, ours) for index in range(len(destinations))]
        async with asyncio.TaskGroup() as group:
            views = {
                index: group.create_task(self._network.address(Address(destinations[index])))
                for index, refusal in enumerate(refusals)
                if refusal is None
            }
        for index, view in views.items():
            if not view.result().is_unused:
                refusals[index] = USED
        return tuple(
            FieldFault(field=f"destinations[{index}]", message=message)
            for index, message in enumerate(refusals)
            if message is not None
        )
