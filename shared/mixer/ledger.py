"""The mixer's commands to the ledger: each follows from a deposit, a credit or a payout, and so does its id.

A command's id is a function of that fact, the step and the attempt. While its outcome is unknown, the same id is sent
again. Attempt n + 1 is made only once attempt n was read as rejected.
"""

import hashlib
import json
from typing import Final, Literal

import structlog
from pydantic import TypeAdapter

from shared.broker.channels import PublishFailed
from shared.database import postgres
from shared.domain.ids import (
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
from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.journal.rows import ANY_CONTENT_FINGERPRINT
from shared.ledger_client.client import LedgerClient
from shared.ledger_client.pending import CommandResult
from shared.messages import (
    AccountCreate,
    Command,
    FieldFault,
    HoldCapture,
    HoldPlace,
    HoldVoid,
    MixCreate,
    OperationRefuse,
    Outcome,
    Posting,
    PostTransaction,
)
from shared.messages.mixer import mix_id

log = structlog.get_logger()

JOB: Final = AssetCode("JOB")
RESULT_TIMEOUT_S: Final = 5.0
# Stands in a command until its own fingerprint is known.
NO_FINGERPRINT: Final = "0" * 32
ERRORS: Final = TypeAdapter(tuple[FieldFault, ...])

READ_OUTCOME = "SELECT outcome, code FROM ledger.operations WHERE id = $1"
READ_ORDER = """
SELECT o.fingerprint, o.outcome, o.code, o.detail, ledger.us(b.recorded_at) AS recorded_at_us
  FROM ledger.operations o JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch WHERE o.id = $1
"""


@value
class CommandDecision:
    """What the ledger decided on one of the mixer's commands. `code` is None when it is posted."""

    id: CommandId
    code: str | None


def mix_account(mix: str) -> AccountId:
    """The ledger account of a mix."""
    return AccountId(f"mix:{mix}")


class MixerLedger:
    """The ledger, as the mixer uses it.

    `credit`, `fee`, `hold`, `capture` and `void` return the decision, or None while it is unknown: call again then.

    Every method raises what is in postgres.TRANSIENT_FAULTS when the journal cannot be read.
    """

    def __init__(self, client: LedgerClient, ids: CommandIds, pool: postgres.Pool) -> None:
        self._client = client
        self._ids = ids
        self._pool = pool

    async def outcome_of_order(self, order: MixCreate) -> Outcome | None:
        """What the journal says of the order's id, whichever command used it. None if nothing yet."""
        row = await self._pool.fetchrow(READ_ORDER, order.id)
        if row is None or row["outcome"] == "started":
            return None
        code: Rejection | None = None if row["code"] is None else Rejection(row["code"])
        if row["fingerprint"].hex() not in {order.fingerprint, ANY_CONTENT_FINGERPRINT}:
            code = Rejection.IDEMPOTENCY_KEY_REUSED
        return Outcome(
            id=order.id,
            fingerprint=order.fingerprint,
            status="posted" if code is None else "rejected",
            code=code,
            recorded_at_us=int(row["recorded_at_us"]),
            errors=ERRORS.validate_json(row["detail"]) if code is Rejection.ADDRESS_REFUSED else (),
        )

    async def send_order(self, order: MixCreate, errors: tuple[FieldFault, ...]) -> None:
        """Has the order recorded: as refused if there are `errors`, else as the account of the mix (ADR 9)."""
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
        await self._call(command, account)

    async def credit(self, mix: str, sweep: str, attempt: int, amount: int) -> CommandDecision | None:
        """Posts a sweep that was seen, worth `amount` minor units: from the house to the mix.

        The command is named after a deposit, as it was when each was swept by itself: those keep their ids.
        """
        account = mix_account(mix)
        posting = Posting(source=self._system("house", account), destination=account, amount=amount, asset=JOB)
        return await self._post("deposit.v1", posting, f"deposit:{sweep}", f"credit:{attempt}")

    async def fee(self, mix: str, credit: str, attempt: int, amount: int) -> CommandDecision | None:
        """Posts the fee of one credit, in minor units: from the mix to the fees."""
        account = mix_account(mix)
        posting = Posting(source=account, destination=self._system("fees", account), amount=amount, asset=JOB)
        return await self._post("transfer.v1", posting, f"credit:{credit}", f"fee:{attempt}")

    async def hold(self, mix: str, payout: str, attempt: int, amount: int) -> CommandDecision | None:
        """Sets a payout's amount aside; only a capture or an operator ends the hold."""
        account = mix_account(mix)
        command = HoldPlace(
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
        return await self._decide(command, account)

    def hold_id(self, payout: str, attempt: int) -> HoldId:
        """The hold that `hold` places."""
        return HoldId(derived_id(self._hold_command(payout, attempt), "hold"))

    async def capture(self, mix: str, payout: str, attempt: int, hold: str) -> CommandDecision | None:
        """Posts what was held, once the payout was seen on the network: from the mix to the house."""
        account = mix_account(mix)
        command = HoldCapture(
            id=self._id(f"payout:{payout}:capture:{attempt}"),
            principal=MIXER,
            admin=True,
            fingerprint=NO_FINGERPRINT,
            reference=f"payout:{payout}",
            hold=HoldId(hold),
            account=account,
            destination=self._system("house", account),
        )
        return await self._decide(command, account)

    async def void(self, mix: str, payout: str, attempt: int, hold: str) -> CommandDecision | None:
        """Gives back what was held for a payout that was cancelled."""
        account = mix_account(mix)
        command = HoldVoid(
            id=self._id(f"payout:{payout}:void:{attempt}"),
            principal=MIXER,
            admin=True,
            fingerprint=NO_FINGERPRINT,
            reference=f"payout:{payout}",
            hold=HoldId(hold),
            account=account,
        )
        return await self._decide(command, account)

    async def _post(
        self, kind: Literal["deposit.v1", "transfer.v1"], posting: Posting, fact: str, step: str
    ) -> CommandDecision | None:
        command = PostTransaction(
            kind=kind,
            id=self._id(f"{fact}:{step}"),
            principal=MIXER,
            admin=True,
            fingerprint=NO_FINGERPRINT,
            reference=fact,
            postings=(posting,),
        )
        # The house and the fees are in the partition of the mix, so either account names it.
        return await self._decide(command, posting.source)

    async def _decide(self, command: Command, account: AccountId) -> CommandDecision | None:
        signed = command.model_copy(update={"fingerprint": content_fingerprint(command)})
        result = await self._call(signed, account)
        if result is not None and result.outcome.code is not Rejection.IDEMPOTENCY_KEY_REUSED:
            return CommandDecision(command.id, result.outcome.code)
        row = await self._pool.fetchrow(READ_OUTCOME, command.id)
        return None if row is None or row["outcome"] == "started" else CommandDecision(command.id, row["code"])

    async def _call(self, command: Command, account: AccountId) -> CommandResult | None:
        partition = partition_of(account, self._client.partitions)
        try:
            return await self._client.call(command, partition, RESULT_TIMEOUT_S)
        except PublishFailed as fault:
            log.info("command.without_result", command_id=command.id, fault=repr(fault))
            return None

    def _system(self, role: str, account: AccountId) -> AccountId:
        return system_account(role, JOB, partition_of(account, self._client.partitions))

    def _hold_command(self, payout: str, attempt: int) -> CommandId:
        return self._id(f"payout:{payout}:hold:{attempt}")

    def _id(self, fact: str) -> CommandId:
        return self._ids.of_key(MIXER, fact)


def content_fingerprint(command: Command) -> str:
    """32 hex digits over everything but the id: two commands with one id and different content are told apart."""
    content = command.model_dump(mode="json", exclude={"id", "fingerprint", "repeat"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
