"""The checks of `tellerline verify`, on a journal in memory."""

from collections import Counter
from collections.abc import Iterator

from shared.journal.rows import copy_text
from tellerline.verification.accounts import ACCOUNT, ENTRY, OPEN_HOLDS, AccountProof, check_totals
from tellerline.verification.batches import Batch, BatchProof, EndedHold, carried_to
from tellerline.verification.chain import Chain
from tellerline.verification.transit import SettledRow, TransitBalances, read_credits, totals
from tests.twins.journal import Journal


def prove(journal: Journal) -> int:
    """The number of credits that are still on their way. Raises Violated at the first bad row."""
    assets = {code: made for code, (_, _, made) in journal.assets.items()}
    accounts = AccountProof(journal.partitions, frozenset(assets))
    accounts.feed(_account_lines(journal))
    accounts.finish()
    check_totals(accounts.totals)
    cursors: dict[int, dict[int, int]] = {}
    netted = Counter[str]()
    for partition in range(journal.partitions):
        chain = Chain(partition, journal.partitions)
        for row in journal.batches[partition]:
            batch = _batch(journal, partition, row.batch)
            chain.check_place(row)
            proof = BatchProof(batch, journal.partitions, assets)
            proof.check()
            netted.update(proof.netted)
            chain.advance(row, batch.lines_of, chain.check_cursors(row, batch.settled_batches()))
            proof.check_lists()
        cursors[partition] = chain.cursors
    transit = TransitBalances(cursors, netted)
    waiting = 0
    for place, credits in sorted(journal.transit.items()):
        if place not in journal.settlements:
            sent = read_credits(credits) or []
            waiting += len(sent)
            transit.wait(*place, totals(sent))
    transit.finish(accounts.transit_balances)
    return waiting


def _settled_row(journal: Journal, place: tuple[int, int, int]) -> SettledRow:
    source, number, destination = place
    credits = read_credits(journal.transit[place])
    operations = [line.removesuffix("\n") for line in journal.lines[source, number]["operations"]]
    return SettledRow(source, number, credits, carried_to(destination, operations, journal.partitions))


def _account_lines(journal: Journal) -> Iterator[str]:
    for account, row in sorted(journal.accounts.items()):
        opened = [account, ACCOUNT, "0", row["asset"], row["partition"], row["batch"], "0", *["0"] * 5, row["status"]]
        yield "\t".join(map(str, opened))
        for entry in journal.entries.get(account, []):
            columns = (
                "seq",
                "asset",
                "partition",
                "batch",
                "line",
                "delta",
                "held_delta",
                "balance_after",
                "held_after",
                "limit_after",
                "status_after",
            )
            yield "\t".join([account, ENTRY, *(str(entry[column]) for column in columns)])
        open_holds = [
            int(hold["amount"] or 0)
            for key, hold in journal.holds.items()
            if hold["account_id"] == account and key not in journal.hold_ends
        ]
        if open_holds:
            yield "\t".join([account, OPEN_HOLDS, "0", "", *["0"] * 6, str(sum(open_holds)), "0", ""])


def _batch(journal: Journal, partition: int, number: int) -> Batch:
    row = journal.batches[partition][number - 1]
    lines = {
        table: [line.removesuffix("\n") for line in rows] for table, rows in journal.lines[partition, number].items()
    }
    lines["accounts"] = sorted(line.rsplit("\t", 2)[0] for line in lines["accounts"])
    lines["settlements"].sort(key=lambda line: [int(part) for part in line.split("\t")[:2]])
    lines["holds"].sort()
    lines["hold_ends"].sort()
    batch = Batch(row, {table: rows for table, rows in lines.items() if rows})
    batch.listed = journal.listed[partition, number]
    batch.owners = {account: copy_text(str(row["owner"])) for account, row in journal.accounts.items()}
    for source, source_batch, _, _ in (line.split("\t") for line in lines["settlements"]):
        place = int(source), int(source_batch), partition
        batch.settled.append(_settled_row(journal, place))
    for hold, ended, operation, _, _ in (line.split("\t") for line in lines["hold_ends"]):
        row_of = journal.holds.get(hold)
        held = (
            (None, None, None, None)
            if row_of is None
            else (row_of["account_id"], row_of["asset"], row_of["amount"], int(row_of["partition"] or 0))
        )
        batch.ended.append(EndedHold(hold, ended, operation, *held))
    return batch
