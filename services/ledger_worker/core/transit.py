"""Folds other partitions' credits in, and writes the transit side of a batch (DESIGN §4.4).

A transit row is folded whole, in the order of its source's batches, exactly once: the cursor that this batch carries
and the settlement row say so. What cannot land goes back as its own linked operation; a return that cannot land goes
to suspense.
"""

from collections.abc import Iterable, Sequence

from services.ledger_worker.core.accounts import Account, Status
from services.ledger_worker.core.draft import OperationRow
from services.ledger_worker.core.line import InvariantBroken, Line
from shared.ids import AccountId, AssetCode, Partition, clearing_account, system_account, transit_account
from shared.money import BALANCE_MINOR_MAX
from shared.transit_rows import RETURN_KIND, Credit, return_id
from shared.values import value


@value
class Landed:
    """One credit's end here: on its account, sent back, or set aside. `balance` where the principal may read it."""

    credit: Credit
    balance: int | None
    returned: bool


def fold_row(line: Line, source: Partition, source_batch: int, credits: Sequence[Credit]) -> list[Landed]:
    """Folds one transit row into the open batch and moves the cursor. The accounts named must be in memory."""
    if source_batch <= line.cursors.get(source, 0):
        raise InvariantBroken(f"transit row {source}/{source_batch} → {line.partition} was folded before")
    landed = [_land(line, source, credit) for credit in credits]
    _fold(line, source, source_batch, ((credit.asset, credit.amount) for credit in credits))
    return landed


def fold_to_suspense(line: Line, source: Partition, source_batch: int, totals: Iterable[tuple[AssetCode, int]]) -> None:
    """Sets aside a row that cannot be read; `totals` come from the source's journal. Nothing stops a line."""
    amounts = list(totals)
    for asset, amount in amounts:
        line.open_draft().enter(_own(line, system_account("suspense", asset, line.partition)), None, amount)
    _fold(line, source, source_batch, amounts)


def write_transit_entries(line: Line) -> None:
    """One net entry per transit account and batch, then the batch's transit rows. Nothing may be sent after this."""
    draft = line.draft
    if draft is None:
        return
    for asset, net in sorted(draft.clearing.items()):
        if net:
            draft.enter(_own(line, clearing_account(asset, line.partition)), None, net)
    for destination in sorted(draft.outgoing):
        totals: dict[AssetCode, int] = {}
        for credit in draft.outgoing[destination]:
            totals[credit.asset] = totals.get(credit.asset, 0) + credit.amount
        for asset in sorted(totals):
            draft.enter(_own(line, transit_account(asset, destination, "out", line.partition)), None, totals[asset])
    for source in sorted(draft.incoming):
        for asset, amount in sorted(draft.incoming[source].items()):
            draft.enter(_own(line, transit_account(asset, source, "in", line.partition)), None, -amount)
    draft.write_transit_rows()


def transit_accounts(line: Line) -> list[AccountId]:
    """The transit accounts that `write_transit_entries` will touch."""
    draft = line.draft
    if draft is None:
        return []
    out = {
        transit_account(credit.asset, destination, "out", line.partition)
        for destination, credits in draft.outgoing.items()
        for credit in credits
    }
    return sorted(
        out
        | {clearing_account(asset, line.partition) for asset in draft.clearing}
        | {
            transit_account(asset, source, "in", line.partition)
            for source, assets in draft.incoming.items()
            for asset in assets
        }
    )


def landing_accounts(line: Line, credits: Iterable[Credit]) -> set[AccountId]:
    """The accounts that folding these credits may touch."""
    wanted: set[AccountId] = set()
    for credit in credits:
        wanted.add(credit.account)
        if credit.kind == "return":
            wanted.add(system_account("suspense", credit.asset, line.partition))
    return wanted


def _land(line: Line, source: Partition, credit: Credit) -> Landed:
    draft = line.open_draft()
    account = line.account(credit.account)
    if account is None:
        raise InvariantBroken(f"credit of {credit.operation} to {credit.account}, which does not exist here")
    if credit.kind == "return":
        # Whoever sent it back has probably closed since we read of it: the next transfer there reads again.
        line.world.facts.pop(credit.source, None)
    if _can_land(account, credit.amount):
        draft.enter(account, credit.operation, credit.amount)
        readable = account.readable_by(credit.principal, admin=credit.admin)
        return Landed(credit, account.balance if readable else None, returned=False)
    if credit.kind == "return":
        draft.enter(
            _own(line, system_account("suspense", credit.asset, line.partition)), credit.operation, credit.amount
        )
        return Landed(credit, None, returned=True)
    _send_back(line, source, credit)
    return Landed(credit, None, returned=True)


def _send_back(line: Line, source: Partition, credit: Credit) -> None:
    operation = return_id(credit.operation, line.partition)
    draft = line.open_draft()
    draft.operate(
        OperationRow(
            operation,
            RETURN_KIND,
            credit.principal,
            "0" * 31 + "1",
            postings=f'[["{credit.account}","{credit.source}","{credit.amount}","{credit.asset}"]]',
            subject=credit.operation,
            accounts=(credit.account, credit.source),
        )
    )
    draft.send(
        source,
        Credit(
            operation,
            credit.source,
            credit.asset,
            credit.amount,
            credit.account,
            "return",
            credit.principal,
            credit.admin,
            None,
        ),
    )


def _can_land(account: Account, amount: int) -> bool:
    return account.status is not Status.CLOSED and account.balance + amount <= BALANCE_MINOR_MAX


def _fold(line: Line, source: Partition, source_batch: int, amounts: Iterable[tuple[AssetCode, int]]) -> None:
    draft = line.open_draft()
    folded = draft.incoming.setdefault(source, {})
    for asset, amount in amounts:
        folded[asset] = folded.get(asset, 0) + amount
    draft.settle(source, source_batch)
    line.cursors[source] = source_batch


def _own(line: Line, account: AccountId) -> Account:
    own = line.account(account)
    if own is None:
        raise InvariantBroken(f"{account} does not belong to partition {line.partition}")
    return own
