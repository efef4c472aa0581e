"""Decides deposits, withdrawals and transfers: debits here, and credits here or sends the credit to its partition."""

from typing import Final

from services.ledger_worker.core.accounts import Account, Status
from services.ledger_worker.core.outcomes import CommandContext, Decision, Rejected
from services.ledger_worker.core.state import PartitionState, is_visible
from shared.domain.ids import AccountId, AssetCode, Partition, partition_of, transit_account
from shared.domain.money import BALANCE_MINOR_MAX
from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.journal.transit import TransitCredit
from shared.messages import HoldCapture, PostTransaction

SUSPENSE_PREFIX: Final = "suspense:"
# Accounts for the amounts in transit between partitions. No posting may name one.
TRANSIT_PREFIX: Final = "transit:"
# 1/16 of a transit account's bound is kept free for credits that come back, and for the first batch after a start: its
# credits are decided before the account is loaded. This part holds 60,000 of the largest amounts.
TRANSIT_RESERVE: Final = 16


def post_transaction(
    partition: PartitionState, command: PostTransaction, context: CommandContext
) -> Decision | Rejected:
    """Decides a transaction of one posting."""
    [posting] = command.postings
    if posting.asset not in partition.ledger.assets:
        return Rejected(Rejection.UNKNOWN_ASSET)
    if posting.source == posting.destination:
        return Rejected(Rejection.SAME_ACCOUNT)
    source = None if posting.source.startswith(TRANSIT_PREFIX) else partition.visible_account(posting.source, command)
    if source is None:
        return Rejected(Rejection.ACCOUNT_NOT_FOUND)
    target = credit_target(partition, posting.destination)
    if target is None:
        return Rejected(Rejection.ACCOUNT_NOT_FOUND)
    if not source.asset == target.asset == posting.asset:
        return Rejected(Rejection.ASSET_MISMATCH)
    rejected = (
        reject_closed(target) or reject_debit(source, posting.amount) or reject_over_limit(target, posting.amount)
    )
    if rejected is not None:
        return rejected
    # From here on it must succeed.
    batch = partition.open_batch()
    batch.enter(source, command.id, -posting.amount)
    balances = credit(partition, command, source, target, posting.amount, context)
    batch.add_posted(
        command,
        postings=postings_text(posting.source, posting.destination, posting.amount, posting.asset),
        accounts=(posting.source, posting.destination),
        assets=(posting.asset,),
    )
    return Decision(command.id, command.fingerprint, balances=balances, legs=target.legs)


def postings_text(source: str, destination: str, amount: int, asset: str) -> str:
    """One posting as the journal keeps postings: JSON of [[source, destination, minor units as text, asset]]."""
    return f'[["{source}","{destination}","{amount}","{asset}"]]'


@value
class CreditTarget:
    """The account to be credited. `account` is None when another partition owns it.

    `balance`, in minor units: of the account that this partition credits, which is the target itself or the transit
    account to its partition. The latter counts as empty before the open batch until a batch of this worker has used it.
    """

    id: AccountId
    asset: AssetCode
    partition: Partition
    is_closed: bool
    balance: int
    account: Account | None = None

    @property
    def legs(self) -> tuple[int, ...]:
        """The partition where the credit is still to land, if it is another one."""
        return (int(self.partition),) if self.account is None else ()


def credit_target(partition: PartitionState, destination: AccountId) -> CreditTarget | None:
    """Where a credit to `destination` goes; None when there is no such account."""
    if destination.startswith(TRANSIT_PREFIX):
        return None
    owner = partition_of(destination, partition.ledger.partitions)
    if owner != partition.partition:
        facts = partition.ledger.facts_of(destination)
        if facts is None:
            return None
        return CreditTarget(
            destination, facts.asset, owner, facts.is_closed, _in_transit(partition, owner, facts.asset)
        )
    account = partition.account(destination)
    if account is None:
        return None
    return CreditTarget(destination, account.asset, owner, account.status is Status.CLOSED, account.balance, account)


def _in_transit(partition: PartitionState, peer: Partition, asset: AssetCode) -> int:
    known = partition.accounts.get(transit_account(asset, peer, "out", partition.partition))
    balance = 0 if known is None else known.balance
    return balance if partition.builder is None else balance + partition.builder.sent.get(peer, {}).get(asset, 0)


def available(account: Account) -> int:
    """What may be debited: balance - held + overdraft limit, in minor units."""
    return account.balance - account.held + account.limit


def reject_debit(source: Account, amount: int) -> Rejected | None:
    """Why `amount` minor units may not leave the account; None when they may."""
    if source.status is not Status.OPEN:
        return Rejected(Rejection.ACCOUNT_CLOSED if source.status is Status.CLOSED else Rejection.ACCOUNT_FROZEN)
    # What lies in suspense is somebody's: two decisions about one amount must not move another's.
    is_exempt = source.is_system and not source.id.startswith(SUSPENSE_PREFIX)
    if not is_exempt and available(source) < amount:
        return Rejected(Rejection.INSUFFICIENT_FUNDS, available=available(source), required=amount)
    if source.balance - amount < -BALANCE_MINOR_MAX:
        return Rejected(Rejection.LIMIT_EXCEEDED)
    return None


def reject_closed(target: CreditTarget) -> Rejected | None:
    """Refuses a credit to an account that is closed, as far as this partition knows.

    Another partition checks again when the credit arrives: only it knows whether its account is closed by then.
    """
    return Rejected(Rejection.ACCOUNT_CLOSED) if target.is_closed else None


def reject_over_limit(target: CreditTarget, amount: int) -> Rejected | None:
    """Refuses `amount` minor units that would take a balance of this partition beyond the bound.

    Another partition checks when the credit arrives: only it knows the balance.
    """
    bound = BALANCE_MINOR_MAX
    if target.account is None:
        bound -= BALANCE_MINOR_MAX // TRANSIT_RESERVE
    return Rejected(Rejection.LIMIT_EXCEEDED) if target.balance + amount > bound else None


def credit(
    partition: PartitionState,
    command: PostTransaction | HoldCapture,
    source: Account,
    target: CreditTarget,
    amount: int,
    context: CommandContext,
) -> dict[str, int]:
    """Credits the target now, or sends the credit to its partition.

    Returns the balances of both accounts after it, in minor units, where the principal may see them.
    """
    balances: dict[str, int] = {}
    if is_visible(source, command.principal, admin=command.admin):
        balances[source.id] = source.balance
    batch = partition.open_batch()
    if target.account is not None:
        batch.enter(target.account, command.id, amount)
        if is_visible(target.account, command.principal, admin=command.admin):
            balances[target.id] = target.account.balance
        return balances
    batch.send(
        target.partition,
        TransitCredit(
            operation=command.id,
            account=target.id,
            asset=target.asset,
            amount=amount,
            source=source.id,
            kind="credit",
            principal=command.principal,
            admin=command.admin,
            reply_to=context.reply_to,
            operation_kind=command.kind,
            reference=command.reference,
            source_owner=source.owner,
        ),
    )
    return balances
