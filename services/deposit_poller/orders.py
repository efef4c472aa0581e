"""Decides orders for mixes: each once, under the rules of every command (DESIGN §4.6)."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from services.deposit_poller import metrics
from services.deposit_poller.core.destinations import USED, refusal_of
from services.deposit_poller.store.mixes import MixStore, Recorded
from shared.jobcoin import JobcoinNetwork
from shared.jobcoin_rows import Address
from shared.messages import FieldError, MixCancel, MixCreate, MixOrder, Outcome
from shared.mixer_ledger import MixerLedger
from shared.rejections import Rejection

log = structlog.get_logger()

# Of a cancelled order: any content is a repeat of it.
ANY_CONTENT: Final = "0" * 32


class AccountUndecided(Exception):
    """The ledger has not said yet that the mix's account is there."""


class OrderDesk:
    """Makes mixes. An order's outcome is written before anything follows from it; a repeat finds it."""

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

    async def decide(self, order: MixOrder) -> Outcome:
        """The outcome, once the database and the ledger have it.

        Raises NetworkUnavailable, AccountUndecided, or what is in db.TRANSIENT_FAULTS: it may be decided later.
        """
        recorded = await self._mixes.outcome(order.id)
        replayed = recorded is not None
        if recorded is None:
            used = await self._mixes.used_elsewhere(order.id)
            if used is Rejection.IDEMPOTENCY_KEY_REUSED:
                return Outcome(id=order.id, fingerprint=order.fingerprint, status="rejected", code=used)
            recorded = await self._record(order, is_cancelled=used is not None)
        outcome = _outcome(order, recorded, replayed=replayed)
        if recorded.mix is not None and not recorded.account_opened and outcome.code is None:
            await self.open_account(recorded.mix)
        metrics.MIXES.labels("replayed" if replayed else outcome.code or outcome.status).inc()
        return outcome

    async def open_account(self, mix: str) -> None:
        """Makes sure of the mix's account in the ledger. Raises AccountUndecided."""
        decided = await self._ledger.open_account(mix)
        if decided is None or decided.code is not None:
            raise AccountUndecided(f"{mix}: {decided and decided.code}")
        await self._mixes.write_opened(mix)

    async def _record(self, order: MixOrder, *, is_cancelled: bool) -> Recorded:
        if isinstance(order, MixCancel) or is_cancelled:
            await self._mixes.write_refusal(order.id, order.principal, ANY_CONTENT, Rejection.CANCELLED)
        elif errors := await self._errors(order):
            code = Rejection.ADDRESS_REFUSED
            await self._mixes.write_refusal(order.id, order.principal, order.fingerprint, code, errors)
        else:
            await self._mixes.write_mix(order)
            self._made()
        # Another copy of this message may have been decided meanwhile: what stands there is the outcome.
        recorded = await self._mixes.outcome(order.id)
        if recorded is None:
            raise RuntimeError(f"order {order.id} was written and is not there")
        log.info("order.decided", operation_id=order.id, mix_id=recorded.mix, code=recorded.code)
        return recorded

    async def _errors(self, order: MixCreate) -> list[FieldError]:
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
        return [
            FieldError(field=f"destinations[{index}]", message=message)
            for index, message in enumerate(refusals)
            if message is not None
        ]


def _outcome(order: MixOrder, recorded: Recorded, *, replayed: bool) -> Outcome:
    is_repeat = recorded.fingerprint in {order.fingerprint, ANY_CONTENT} or isinstance(order, MixCancel)
    code = recorded.code if is_repeat else Rejection.IDEMPOTENCY_KEY_REUSED
    return Outcome(
        id=order.id,
        fingerprint=order.fingerprint,
        status="posted" if code is None else "rejected",
        code=code,
        replayed=replayed and is_repeat,
        recorded_at_us=recorded.recorded_at_us,
        errors=recorded.errors if code is Rejection.ADDRESS_REFUSED else (),
    )
