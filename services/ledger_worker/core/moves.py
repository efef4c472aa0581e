"""Deposits, withdrawals and transfers: one posting, debited here, credited here or sent on its way."""

from typing import Final

from services.ledger_worker.core.accounts import Account, Status
from services.ledger_worker.core.decision import Asking, Decision, Refusal, operation_row, postings_of
from services.ledger_worker.core.line import Line
from shared.ids import AccountId, AssetCode, Partition
from shared.messages import HoldCapture, Move
from shared.money import BALANCE_MINOR_MAX
from shared.rejections import Rejection
from shared.transit_rows import Credit
from shared.values import value

# What is on its way between partitions, or was cleared: no posting may name it.
TRANSIT_PREFIX: Final = "transit:"


def move(line: Line, command: Move, asking: Asking) -> Decision | Refusal:
    """Decides one posting."""
    if command.asset not in line.world.assets:
        return Refusal(Rejection.UNKNOWN_ASSET)
    if command.source == command.destination:
        return Refusal(Rejection.SAME_ACCOUNT)
    source = None if command.source.startswith(TRANSIT_PREFIX) else line.account(command.source)
    if source is None or not source.readable_by(command.principal, admin=command.admin):
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    landing = landing_of(line, command.destination)
    if landing is None:
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    if not source.asset == landing.asset == command.asset:
        return Refusal(Rejection.ASSET_MISMATCH)
    refusal = refuse_debit(source, command.amount) or refuse_credit(landing, command.amount)
    if refusal is not None:
        return refusal
    # From here on it must succeed.
    draft = line.open_draft()
    draft.enter(source, command.id, -command.amount)
    balances = credit(line, command, source, landing, command.amount, asking)
    draft.operate(operation_row(command, postings=postings_of(command), accounts=(command.source, command.destination)))
    return Decision(command.id, command.fingerprint, balances=balances, legs=landing.legs)


@value
class Landing:
    """Where a credit goes: an account in memory, of this line or one beside it, or what is known of one elsewhere."""

    id: AccountId
    asset: AssetCode
    partition: Partition
    is_closed: bool
    account: Account | None = None
    line: Line | None = None

    @property
    def legs(self) -> tuple[int, ...]:
        """The partitions whose settlement the answer waits for."""
        return (int(self.partition),) if self.account is None else ()


def landing_of(line: Line, destination: AccountId) -> Landing | None:
    """Where a credit to `destination` would land; None when there is no such account."""
    if destination.startswith(TRANSIT_PREFIX):
        return None
    partition = line.world.partition_of(destination)
    there = line if partition == line.partition else line.beside(partition)
    if there is None:
        facts = line.world.facts_of(destination)
        return None if facts is None else Landing(destination, facts.asset, partition, facts.is_closed)
    account = there.account(destination)
    if account is None:
        return None
    return Landing(destination, account.asset, partition, account.status is Status.CLOSED, account, there)


def refuse_debit(source: Account, amount: int) -> Refusal | None:
    """Why `amount` minor units may not leave the account."""
    if source.status is not Status.OPEN:
        return Refusal(Rejection.ACCOUNT_CLOSED if source.status is Status.CLOSED else Rejection.ACCOUNT_FROZEN)
    if not source.is_system and source.available < amount:
        return Refusal(Rejection.INSUFFICIENT_FUNDS, available=source.available, required=amount)
    if source.balance - amount < -BALANCE_MINOR_MAX:
        return Refusal(Rejection.LIMIT_EXCEEDED)
    return None


def refuse_credit(landing: Landing, amount: int) -> Refusal | None:
    """Why `amount` minor units may not arrive, as far as it is known here."""
    if landing.is_closed:
        return Refusal(Rejection.ACCOUNT_CLOSED)
    # Elsewhere, its own partition decides when the credit lands: it may have been closed since we read of it.
    if landing.account is not None and landing.account.balance + amount > BALANCE_MINOR_MAX:
        return Refusal(Rejection.LIMIT_EXCEEDED)
    return None


def credit(
    line: Line,
    command: Move | HoldCapture,
    source: Account,
    landing: Landing,
    amount: int,
    asking: Asking,
) -> dict[str, int]:
    """Lands the credit in this commit or sends it on its way; the balances after it that the principal may read."""
    balances: dict[str, int] = {}
    if source.readable_by(command.principal, admin=command.admin):
        balances[source.id] = source.balance
    if landing.account is None or landing.line is None:
        line.open_draft().send(
            landing.partition,
            Credit(
                command.id,
                landing.id,
                landing.asset,
                amount,
                source.id,
                "credit",
                command.principal,
                command.admin,
                asking.reply_to,
            ),
        )
        return balances
    landing.line.open_draft().enter(landing.account, command.id, amount)
    if landing.line is not line:
        line.book_clearing(landing.line, landing.asset, amount)
    if landing.account.readable_by(command.principal, admin=command.admin):
        balances[landing.id] = landing.account.balance
    return balances
