"""Takes in credits from other partitions: whole transit rows, in the order of the source's batches, each exactly once.

The batch that takes rows in also stores the advanced cursor and one settlement per row. A credit that cannot land is
sent back by a new operation whose subject is the original one; a return that cannot land is credited to suspense.
"""

from collections.abc import Iterable, Sequence

from services.ledger_worker.core.accounts import Account, Status
from services.ledger_worker.core.batch import OperationRow
from services.ledger_worker.core.lists import ListedOperation
from services.ledger_worker.core.state import PartitionState, is_visible
from services.ledger_worker.core.transfers import TRANSIT_RESERVE, postings_text
from shared.domain.ids import AccountId, AssetCode, Partition, system_account, transit_account
from shared.domain.lifecycle import InvariantBroken
from shared.domain.money import BALANCE_MINOR_MAX
from shared.domain.values import value
from shared.journal.transit import NETTED_FROM, RETURN_FINGERPRINT, RETURN_KIND, TransitCredit, return_id


@value
class LandedCredit:
    """The result of one credit. `balance`: after it, in minor units; None if the principal may not see it."""

    credit: TransitCredit
    balance: int | None
    is_returned: bool  # sent back, or credited to suspense


def take_in(
    partition: PartitionState, source: Partition, source_batch: int, credits: Sequence[TransitCredit]
) -> list[LandedCredit]:
    """Enters one transit row's credits in the open batch and advances the cursor. Their accounts must be loaded."""
    if source_batch <= partition.cursors.get(source, 0):
        raise InvariantBroken(f"transit row {source}/{source_batch} → {partition.partition} was taken in before")
    full = _full_assets(partition, source, credits)
    landed = [_land(partition, source, credit, is_full=credit.asset in full) for credit in credits]
    partition.open_batch().settle(source, source_batch, [(credit.asset, credit.amount) for credit in credits])
    partition.cursors[source] = source_batch
    return landed


def take_in_to_suspense(
    partition: PartitionState, source: Partition, source_batch: int, totals: Sequence[tuple[AssetCode, int]]
) -> None:
    """Credits a row that cannot be taken in to suspense. `totals`: minor units per asset, from the source's journal."""
    for asset, amount in totals:
        suspense = partition.system_account(system_account("suspense", asset, partition.partition))
        partition.open_batch().enter(suspense, None, amount)
    partition.open_batch().settle(source, source_batch, totals)
    partition.cursors[source] = source_batch


def close_transit(partition: PartitionState) -> None:
    """Enters each transit account's net change and adds the transit rows. Must come last, just before the seal.

    What is sent is entered before the large balances are netted, and what is taken in after that: so an amount that
    comes in and goes back in one batch finds room.
    """
    batch = partition.builder
    if batch is None or not (batch.outgoing or batch.incoming):
        return
    deltas = sorted(_transit_deltas(partition).items())
    for account, delta in deltas:
        if delta > 0:
            batch.enter(partition.system_account(account), None, delta)
    for asset in _large_assets(partition, deltas):
        _net(partition, asset)
    for account, delta in deltas:
        if delta < 0:
            batch.enter(partition.system_account(account), None, delta)
    batch.add_transit_rows()


def transit_accounts(partition: PartitionState) -> Iterable[AccountId]:
    """The transit accounts that `close_transit` will change or net, as far as those in memory tell."""
    batch = partition.builder
    if batch is None or not (batch.outgoing or batch.incoming):
        return ()
    deltas = _transit_deltas(partition)
    large = _large_assets(partition, deltas.items())
    return [*deltas, *(account for asset in large for account in _all_accounts(partition, asset))]


def _large_assets(partition: PartitionState, deltas: Iterable[tuple[AccountId, int]]) -> list[AssetCode]:
    """The assets of those accounts whose balance is large enough to be netted."""
    found: set[AssetCode] = set()
    for account, _ in deltas:
        known = partition.accounts.get(account)
        if known is not None and abs(known.balance) >= NETTED_FROM:
            found.add(known.asset)
    return sorted(found)


def _net(partition: PartitionState, asset: AssetCode) -> None:
    """Takes off the transit accounts of an asset what they hold against each other.

    What has left the partition stands on "out" accounts, above zero; what has come in stands on "in" accounts, below.
    Their difference is what all other accounts of the partition hold together, so it has a bound of its own (ADR 14).
    """
    known = [partition.accounts[name] for name in _all_accounts(partition, asset) if name in partition.accounts]
    above, below = [each for each in known if each.balance > 0], [each for each in known if each.balance < 0]
    amount = min(sum(each.balance for each in above), -sum(each.balance for each in below))
    for side, sign in ((above, 1), (below, -1)):
        left = amount
        for account in side:
            part = min(left, sign * account.balance)
            if part:
                partition.open_batch().enter(account, None, -sign * part)
            left -= part


def _all_accounts(partition: PartitionState, asset: AssetCode) -> list[AccountId]:
    own, peers = partition.partition, range(partition.ledger.partitions)
    return [
        transit_account(asset, Partition(peer), side, own) for peer in peers if peer != own for side in ("in", "out")
    ]


def landing_accounts(partition: PartitionState, credits: Iterable[TransitCredit]) -> set[AccountId]:
    """The accounts that taking these credits in may change."""
    wanted: set[AccountId] = set()
    for credit in credits:
        wanted.add(credit.account)
        if credit.kind == "return":
            wanted.add(system_account("suspense", credit.asset, partition.partition))
    return wanted


def _transit_deltas(partition: PartitionState) -> dict[AccountId, int]:
    """Transit account → what the open batch sends (positive) or takes in (negative), in minor units."""
    batch, own = partition.open_batch(), partition.partition
    deltas: dict[AccountId, int] = {}
    for destination, amounts in batch.sent.items():
        for asset, amount in amounts.items():
            deltas[transit_account(asset, destination, "out", own)] = amount
    for source, amounts in batch.incoming.items():
        for asset, amount in amounts.items():
            deltas[transit_account(asset, source, "in", own)] = -amount
    return deltas


def _full_assets(partition: PartitionState, source: Partition, credits: Sequence[TransitCredit]) -> set[AssetCode]:
    """The assets of which so much has come from that partition that a row of these credits would pass the bound."""
    taken_in = dict(partition.open_batch().incoming.get(source, {}))
    for credit in credits:
        taken_in[credit.asset] = taken_in.get(credit.asset, 0) + credit.amount
    full: set[AssetCode] = set()
    for asset, amount in taken_in.items():
        known = partition.accounts.get(transit_account(asset, source, "in", partition.partition))
        balance = 0 if known is None else known.balance
        if amount - balance > BALANCE_MINOR_MAX - BALANCE_MINOR_MAX // TRANSIT_RESERVE:
            full.add(asset)
    return full


def _land(partition: PartitionState, source: Partition, credit: TransitCredit, *, is_full: bool) -> LandedCredit:
    batch = partition.open_batch()
    batch.landed[credit.operation] = ListedOperation(
        credit.operation_kind, credit.reference, (credit.asset,), credit.source_owner
    )
    account = partition.account(credit.account)
    if account is None:
        raise InvariantBroken(f"credit of {credit.operation} to {credit.account}, which does not exist here")
    if credit.kind == "return":
        # The destination has probably been closed since its facts were cached: the next transfer reads them again.
        partition.ledger.facts.pop(credit.source, None)
    if _can_land(account, credit.amount) and not (is_full and credit.kind == "credit"):
        batch.enter(account, credit.operation, credit.amount)
        balance = account.balance if is_visible(account, credit.principal, admin=credit.admin) else None
        return LandedCredit(credit, balance, is_returned=False)
    if credit.kind == "return":
        suspense = partition.system_account(system_account("suspense", credit.asset, partition.partition))
        batch.enter(suspense, credit.operation, credit.amount)
    else:
        _send_back(partition, source, credit)
    return LandedCredit(credit, None, is_returned=True)


def _send_back(partition: PartitionState, source: Partition, credit: TransitCredit) -> None:
    operation = return_id(credit.operation, partition.partition)
    batch = partition.open_batch()
    batch.add_operation(
        OperationRow(
            operation,
            RETURN_KIND,
            credit.principal,
            RETURN_FINGERPRINT,
            postings=postings_text(credit.account, credit.source, credit.amount, credit.asset),
            subject=credit.operation,
            accounts=(credit.account, credit.source),
            assets=(credit.asset,),
        )
    )
    batch.send(
        source,
        TransitCredit(
            operation=operation,
            account=credit.source,
            asset=credit.asset,
            amount=credit.amount,
            source=credit.account,
            kind="return",
            principal=credit.principal,
            admin=credit.admin,
            reply_to=None,
            operation_kind=RETURN_KIND,
            reference=None,
            # The return has no entry but the one that it makes where it lands.
            source_owner="",
        ),
    )


def _can_land(account: Account, amount: int) -> bool:
    return account.status is not Status.CLOSED and account.balance + amount <= BALANCE_MINOR_MAX
