"""The worker's core and a naive ledger, side by side: what a test does to the one it does to the other."""

import copy
from collections.abc import Sequence

from hypothesis.stateful import RuleBasedStateMachine, invariant

from services.ledger_worker.core.accounts import Account
from services.ledger_worker.core.decide import Asking, Decision, decide, needed_accounts
from services.ledger_worker.core.line import Known, Line, World
from services.ledger_worker.core.transit import fold_row, landing_accounts, transit_accounts
from services.ledger_worker.group import Group
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Lease
from services.ledger_worker.sealing import seal_drafts
from shared.ids import AccountId, AssetCode, Partition, Principal, partition_of, system_account, transit_account
from shared.messages import Command, HoldCapture, HoldPlace, HoldVoid, routed_by
from shared.rejections import Rejection
from shared.transit_rows import Credit, decode_credits
from tests.builders import Commands
from tests.property.naive_ledger import NaiveLedger
from tests.twins.journal import Journal
from tests.twins.proof import prove
from tests.twins.store import MemoryStore

P = 3
CORE = "core"
ASSETS = (AssetCode("USD"), AssetCode("BTC"))
ALICE, BOB, ROOT = Principal("alice"), Principal("bob"), Principal("root")
POOL = [AccountId(f"acc-{number}") for number in range(9)]
ANYWHERE = [*POOL, AccountId("nobody"), *(system_account("world", ASSETS[0], Partition(number)) for number in range(P))]


class CoreMachine(RuleBasedStateMachine):
    """Does to the core what the shell does, and to the model the same; subclasses say when."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 0
        self.journal = Journal(P, lambda: self.now_us)
        for row in self.journal.owners:
            row.owner, row.epoch = CORE, 1
        self.world = World(P, dict.fromkeys(ASSETS, 2))
        self.lines = self.world.lines
        self.model = NaiveLedger(P, frozenset(ASSETS))
        self.fresh = 0
        self.placed: list[HoldPlace] = []
        self.sent: list[tuple[Partition, Command]] = []
        self._begin_lines()
        self._keep()

    def _begin_lines(self) -> None:
        for partition in map(Partition, range(P)):
            rows = self.journal.batches[partition]
            cursors: dict[Partition, int] = {}
            for source, batch, destination in self.journal.settlements:
                if destination == partition:
                    cursors[Partition(source)] = max(batch, cursors.get(Partition(source), 0))
            is_draining = partition in self.model.apart
            self.lines[partition] = Line(
                self.world, partition, len(rows), cursors, committed=len(rows), is_draining=is_draining
            )

    def _keep(self) -> None:
        self.kept = copy.deepcopy(self.model)

    # What the shell does: load, decide, fold, seal.

    def _load(self, line: Line, wanted: Sequence[AccountId]) -> None:
        store = MemoryStore(self.journal, CORE)
        for account in wanted:
            there = self.lines[partition_of(account, P)]
            known = self.world.facts if there.is_draining and there is not line else there.accounts
            if account in self.journal.accounts and account not in known:
                read, partition = store._account(account)
                self.world.learn(self.lines[partition].accounts.setdefault(account, read))
                self.model.believed_open.discard(account)

    def _decide(self, command: Command, partition: Partition | None = None) -> None:
        account = routed_by(command)
        place = partition if account is None else partition_of(account, P)
        line = self.lines[place or Partition(0)]
        self.sent.append((line.partition, command))
        self._load(line, needed_accounts(command))
        if isinstance(command, HoldCapture | HoldVoid | HoldPlace) and command.hold not in line.holds:
            self._load_hold(line, command)
        before = self._picture()
        # What is not in the journal yet is not known in other partitions: the model sees the whole at once.
        hidden = {name for name in needed_accounts(command) if self._is_hidden(line, name)}
        if hidden:
            self.sent.pop()
            return
        decision = decide(line, command, Asking("reply", self.now_us))
        told = decision.code or "posted"
        on_their_way = self._on_their_way()
        assert told == self.model.decide(command)
        assert len(decision.legs) == self._on_their_way() - on_their_way
        if told != "posted" or decision.replayed:
            self._check_untouched(before)
        self._check_told(command, decision)

    def _on_their_way(self) -> int:
        return sum(map(len, self.model.on_their_way.values()))

    def _is_hidden(self, line: Line, name: AccountId) -> bool:
        return (
            partition_of(name, P) != line.partition
            and line.beside(partition_of(name, P)) is None
            and name not in self.lines[partition_of(name, P)].accounts
            and name in self.model.accounts
            and not self.model.accounts[name].is_system
            and name not in self.world.facts
        )

    def _load_hold(self, line: Line, command: HoldCapture | HoldVoid | HoldPlace) -> None:
        row = self.journal.holds.get(command.hold)
        if row is not None:
            run = MemoryStore(self.journal, CORE).holds([command.hold])
            try:
                while True:
                    run.send(None)
            except StopIteration as ended:
                for hold in ended.value:
                    line.holds.setdefault(hold.id, hold)

    def _check_told(self, command: Command, decision: Decision) -> None:
        for account, balance in decision.balances.items():
            assert balance == self.model.accounts[account].balance
            assert command.admin or self.model.accounts[account].owner == command.principal

    def _picture(self) -> dict[str, tuple[object, ...]]:
        return {
            account.id: (account.status, account.seq, account.balance, account.held, account.limit)
            for line in self.lines.values()
            for account in line.accounts.values()
        }

    def _check_untouched(self, before: dict[str, tuple[object, ...]]) -> None:
        after = self._picture()
        assert {name: after[name] for name in before} == before
        assert all(after[name][1:] == (0, 0, 0, 0) for name in after.keys() - before.keys())

    def _fold_waiting(self, rows_max: int) -> None:
        waiting = sorted(
            (destination, source, batch)
            for source, batch, destination in self.journal.transit
            if (source, batch, destination) not in self.journal.settlements
        )
        for destination, source, batch in waiting[:rows_max]:
            line = self.lines[Partition(destination)]
            credits = decode_credits(self.journal.transit[source, batch, destination])
            self._fold(line, Partition(source), batch, credits)

    def _fold(self, line: Line, source: Partition, batch: int, credits: Sequence[Credit]) -> None:
        self._load(line, sorted(landing_accounts(line, credits)))
        fold_row(line, source, batch, credits)
        self.model.land(source, line.partition, len(credits))

    def _commit(self) -> None:
        for line in self.lines.values():
            self._load(line, transit_accounts(line))
        group = Group()
        leases = {partition: Lease(partition, 1) for partition in self.lines}
        seal_drafts(Owned(self.world, leases), group)
        # The twin of the database checks keys, bounds, funds and that each batch sums to zero per asset.
        if group.sealed:
            self.journal.append(CORE, group.sealed)
        for line in self.lines.values():
            line.committed = line.batch
        self._keep()
        self._check_transit()

    def _check_transit(self) -> None:
        for source in map(Partition, range(P)):
            for destination in map(Partition, range(P)):
                for asset in ASSETS:
                    out = transit_account(asset, destination, "out", source)
                    into = transit_account(asset, source, "in", destination)
                    found = sum(self._last(account, "balance_after") for account in (out, into))
                    assert found == self.model.in_flight(source, destination, asset)

    def _last(self, account: str, column: str) -> int:
        return int(self.journal.entries.get(account, [{}])[-1].get(column) or 0)

    def _make(self, principal: Principal, asset: AssetCode) -> Commands:
        return Commands(principal, admin=principal == ROOT, asset=asset, partitions=P)

    def _key(self, key: int | None) -> str:
        self.fresh += 1
        self.now_us += 1
        return f"fresh-{self.fresh}" if key is None else f"used-{key}"

    # What holds after every step.

    @invariant()
    def accounts_are_as_the_model_says(self) -> None:
        for line in self.lines.values():
            for account in line.accounts.values():
                if not account.id.startswith("transit:"):
                    self._check_account(account)

    def _check_account(self, account: Account) -> None:
        naive = self.model.account(account.id)
        assert naive is not None
        assert (account.balance, account.held, account.limit, account.status) == (
            naive.balance,
            naive.held,
            naive.limit,
            naive.status,
        ), account.id
        held = sum(hold.amount for hold in self.model.holds.values() if hold.is_open and hold.account == account.id)
        assert account.held == held
        assert account.is_system or account.status != "closed" or account.balance == 0

    @invariant()
    def money_is_neither_made_nor_lost(self) -> None:
        for asset in ASSETS:
            total = sum(account.balance for account in self.model.accounts.values() if account.asset == asset)
            crossing = sum(
                credit.amount
                for credits in self.model.on_their_way.values()
                for credit in credits
                if credit.asset == asset
            )
            assert total + crossing == 0

    def teardown(self) -> None:
        self._commit()
        for _ in range(4):  # out, back, to suspense
            self._fold_waiting(10_000)
            self._commit()
        assert prove(self.journal) == 0


def known_operations(journal: Journal) -> dict[str, Known]:
    return {
        identity: Known(str(row["fingerprint"])[2:], None if row["code"] is None else Rejection(row["code"]))
        for identity, row in journal.operations.items()
    }
