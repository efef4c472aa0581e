"""The mixer's side of the ledger: commands that follow from a deposit or a payout, and their outcomes (DESIGN §4.6).

Such a command's id is a function of (fact, step, attempt). After an unknown the same id is asked about and sent again;
attempt n + 1 is made only once attempt n was read as rejected.
"""

import hashlib
import json
from typing import Final, Literal

import structlog
from pydantic import TypeAdapter

from shared import db
from shared.amqp import BusError
from shared.ids import (
    MIXER,
    AccountId,
    AssetCode,
    CommandId,
    CommandIds,
    HoldId,
    derived_id,
    partition_of,
    system_account,
)
from shared.ledger_client import LedgerClient
from shared.messages import (
    AccountCreate,
    Command,
    FieldError,
    HoldCapture,
    HoldPlace,
    MixCreate,
    Move,
    OperationRefuse,
    Outcome,
)
from shared.messages.mixer import mix_id
from shared.rejections import Rejection
from shared.sending import Answer
from shared.values import value

log = structlog.get_logger()

JOB: Final = AssetCode("JOB")
ANSWER_TIMEOUT_S: Final = 5.0
NO_FINGERPRINT: Final = "0" * 32
ANY_CONTENT: Final = "0" * 32  # of a cancelled operation: whatever is sent under its id is a repeat
ERRORS: Final = TypeAdapter(tuple[FieldError, ...])

READ_OUTCOME = "SELECT outcome, code FROM ledger.operations WHERE id = $1"
READ_ORDER = """
SELECT o.fingerprint, o.outcome, o.code, o.detail, ledger.us(b.recorded_at) AS recorded_at_us
  FROM ledger.operations o JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch WHERE o.id = $1
"""


@value
class Decided:
    """The outcome of a derived command; `code` is None when it is posted."""

    id: CommandId
    code: str | None


def mix_account(mix: str) -> AccountId:
    """The ledger account of a mix."""
    return AccountId(f"mix:{mix}")


class MixerLedger:
    """Each method returns the decision, or None while it is unknown: ask again with the same arguments.

    Raises what is in db.TRANSIENT_FAULTS when the journal cannot be read.
    """

    def __init__(self, client: LedgerClient, ids: CommandIds, pool: db.Pool) -> None:
        self._client = client
        self._ids = ids
        self._pool = pool

    async def outcome_of_order(self, order: MixCreate) -> Outcome | None:
        """What the journal says of the order's id, which may have come by another route."""
        row = await self._pool.fetchrow(READ_ORDER, order.id)
        if row is None or row["outcome"] == "started":
            return None
        code: Rejection | None = None if row["code"] is None else Rejection(row["code"])
        if row["fingerprint"].hex() not in {order.fingerprint, ANY_CONTENT}:
            code = Rejection.IDEMPOTENCY_KEY_REUSED
        return Outcome(
            id=order.id,
            fingerprint=order.fingerprint,
            status="posted" if code is None else "rejected",
            code=code,
            recorded_at_us=int(row["recorded_at_us"]),
            errors=ERRORS.validate_json(row["detail"]) if code is Rejection.ADDRESS_REFUSED else (),
        )

    async def order(self, order: MixCreate, errors: tuple[FieldError, ...]) -> None:
        """Has the order written down: as refused for its addresses, or as the account of the mix (ADR 9)."""
        account = mix_account(mix_id(order.id))
        command: Command = AccountCreate(
            kind="mix.create.v1",
            id=order.id,
            principal=order.principal,
            admin=True,
            fingerprint=order.fingerprint,
            account=account,
            asset=JOB,
            owner=MIXER,
        )
        if errors:
            command = OperationRefuse(
                id=order.id,
                principal=order.principal,
                fingerprint=order.fingerprint,
                of="mix.create.v1",
                code=Rejection.ADDRESS_REFUSED,
                errors=errors,
            )
        await self._ask(command, account)

    async def credit(self, mix: str, deposit: str, attempt: int, amount: int) -> Decided | None:
        """A swept deposit, `amount` minor units: from the house to the mix."""
        return await self._move("deposit.v1", "house", mix, amount, f"deposit:{deposit}", f"credit:{attempt}")

    async def fee(self, mix: str, credit: str, attempt: int, amount: int) -> Decided | None:
        """The fee of one credit: from the mix to the fees."""
        return await self._move("transfer.v1", "fees", mix, amount, f"credit:{credit}", f"fee:{attempt}")

    async def hold(self, mix: str, payout: str, attempt: int, amount: int) -> Decided | None:
        """Sets a payout's amount aside; only a capture or an operator ends it."""
        account = mix_account(mix)
        return await self._settle(
            HoldPlace(
                id=self._hold_command(payout, attempt),
                principal=MIXER,
                admin=True,
                fingerprint=NO_FINGERPRINT,
                reference=f"payout:{payout}",
                hold=self.hold_id(payout, attempt),
                account=account,
                amount=amount,
                asset=JOB,
                destination=self._system("house", account),
            )
        )

    def hold_id(self, payout: str, attempt: int) -> HoldId:
        """The hold that `hold` places."""
        return HoldId(derived_id(self._hold_command(payout, attempt), "hold"))

    async def capture(self, mix: str, payout: str, attempt: int, hold: str) -> Decided | None:
        """The payout was seen on the network: what was held goes from the mix back to the house."""
        account = mix_account(mix)
        return await self._settle(
            HoldCapture(
                id=self._id(f"payout:{payout}:capture:{attempt}"),
                principal=MIXER,
                admin=True,
                fingerprint=NO_FINGERPRINT,
                reference=f"payout:{payout}",
                hold=HoldId(hold),
                account=account,
                destination=self._system("house", account),
            )
        )

    async def _move(
        self, kind: Literal["deposit.v1", "transfer.v1"], role: str, mix: str, amount: int, fact: str, step: str
    ) -> Decided | None:
        account = mix_account(mix)
        system = self._system(role, account)
        source, destination = (system, account) if kind == "deposit.v1" else (account, system)
        return await self._settle(
            Move(
                kind=kind,
                id=self._id(f"{fact}:{step}"),
                principal=MIXER,
                admin=True,
                fingerprint=NO_FINGERPRINT,
                reference=fact,
                source=source,
                destination=destination,
                amount=amount,
                asset=JOB,
            )
        )

    async def _settle(self, command: Command) -> Decided | None:
        signed = command.model_copy(update={"fingerprint": content_fingerprint(command)})
        answer = await self._ask(signed, _account_of(command))
        if answer is not None and answer.outcome.code is not Rejection.IDEMPOTENCY_KEY_REUSED:
            return Decided(command.id, answer.outcome.code)
        row = await self._pool.fetchrow(READ_OUTCOME, command.id)
        return None if row is None or row["outcome"] == "started" else Decided(command.id, row["code"])

    async def _ask(self, command: Command, account: AccountId) -> Answer | None:
        # Almost always this is the first time; if not, the worker's table of operations finds the repeat.
        partition = partition_of(account, self._client.partitions)
        try:
            return await self._client.call(command, partition, ANSWER_TIMEOUT_S)
        except BusError as fault:
            log.info("command.unanswered", command_id=command.id, fault=repr(fault))
            return None

    def _system(self, role: str, account: AccountId) -> AccountId:
        return system_account(role, JOB, partition_of(account, self._client.partitions))

    def _hold_command(self, payout: str, attempt: int) -> CommandId:
        return self._id(f"payout:{payout}:hold:{attempt}")

    def _id(self, fact: str) -> CommandId:
        return self._ids.of_key(MIXER, fact)


def content_fingerprint(command: Command) -> str:
    """32 hex digits over everything but the id, so that a fault of ours cannot pass as a repeat."""
    content = command.model_dump(mode="json", exclude={"id", "fingerprint", "repeat"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _account_of(command: Command) -> AccountId:
    match command:
        case Move() if command.source.startswith("mix:"):
            return command.source
        case Move():
            return command.destination
        case HoldPlace() | HoldCapture():
            return command.account
        case _:
            raise ValueError(f"{command.kind} does not derive from a fact of the mixer")
