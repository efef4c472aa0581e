"""The worker's core against a naive ledger: several partitions, all kinds of commands, credits that come back."""

import copy
import os
from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, rule

from services.ledger_worker.core.batch import OperationRow
from services.ledger_worker.core.state import LedgerState, PartitionState
from services.ledger_worker.core.transit import take_in
from shared.domain.ids import AccountId, AssetCode, CommandId, Partition, Principal, partition_of, system_account
from shared.domain.lifecycle import InvariantBroken
from shared.domain.money import AMOUNT_MINOR_MAX, BALANCE_MINOR_MAX
from shared.messages import OperationCancel
from tests.builders import command_id, fingerprint
from tests.property.core_machine import ALICE, ANYWHERE, ASSETS, BOB, POOL, ROOT, CoreMachine, P, known_operations

accounts = st.sampled_from(POOL)
places = st.sampled_from(ANYWHERE)
assets = st.sampled_from((*ASSETS, ASSETS[0], ASSETS[0], AssetCode("NONE")))
principals = st.sampled_from((ALICE, ALICE, BOB, ROOT))
amounts = st.one_of(
    st.integers(1, 200), st.integers(1, 200), st.sampled_from((10**18, AMOUNT_MINOR_MAX - 1, AMOUNT_MINOR_MAX))
)
limits = st.sampled_from((0, 0, 50, 10**20, BALANCE_MINOR_MAX))
keys = st.one_of(st.none(), st.none(), st.integers(0, 5))

# Ten seconds on a quiet machine. Hypothesis takes a time-out in the middle of an example for a failure of the example.
pytestmark = pytest.mark.timeout(600)


class LedgerCore(CoreMachine):
    """Rules decide; some commit, with what waits in transit taken in; some fail, and everything is as it was."""

    @initialize(limit=limits)
    def some_accounts(self, limit: int) -> None:
        for number, account in enumerate(POOL[:7]):
            make = self._make(BOB if number == 6 else ALICE, ASSETS[1] if number == 5 else ASSETS[0])
            self._decide(make.open(account, overdraft_limit=limit if number == 0 else 0, key=self._key(None)))
            deposit = make.deposit(account, 100 + number, key=self._key(None))
            self._decide(deposit.model_copy(update={"admin": True}))
        self._commit()

    @rule(account=accounts, who=principals, asset=assets, limit=limits, key=keys)
    def open_account(self, account: AccountId, who: Principal, asset: AssetCode, limit: int, key: int | None) -> None:
        self._decide(self._make(who, asset).open(account, overdraft_limit=limit, key=self._key(key)))

    @rule(source=places, destination=places, amount=amounts, who=principals, asset=assets, key=keys)
    def transfer(
        self,
        source: AccountId,
        destination: AccountId,
        amount: int,
        who: Principal,
        asset: AssetCode,
        key: int | None,
    ) -> None:
        self._decide(self._make(who, asset).transfer(source, destination, amount, key=self._key(key)))

    @rule(source=accounts, destination=accounts, amount=st.integers(1, 60))
    def transfer_a_little(self, source: AccountId, destination: AccountId, amount: int) -> None:
        self._decide(self._make(ROOT, ASSETS[0]).transfer(source, destination, amount, key=self._key(None)))

    @rule(account=accounts, amount=amounts)
    def deposit(self, account: AccountId, amount: int) -> None:
        self._decide(self._make(ROOT, ASSETS[0]).deposit(account, amount, key=self._key(None)))

    @rule(account=accounts, amount=amounts)
    def withdraw(self, account: AccountId, amount: int) -> None:
        self._decide(self._make(ROOT, ASSETS[0]).withdrawal(account, amount, key=self._key(None)))

    @rule(
        account=accounts, status=st.sampled_from((None, "open", "open", "frozen")), limit=st.one_of(st.none(), limits)
    )
    def change(self, account: AccountId, status: str | None, limit: int | None) -> None:
        command = self._make(ROOT, ASSETS[0]).update(account, overdraft_limit=limit, key=self._key(None))
        self._decide(command.model_copy(update={"status": status}))

    @rule(account=accounts)
    def close(self, account: AccountId) -> None:
        self._decide(self._make(ROOT, ASSETS[0]).close(account, key=self._key(None)))

    @rule(account=accounts)
    def empty_and_close(self, account: AccountId) -> None:
        found = self.model.accounts.get(account)
        if found is not None and 0 < found.balance <= AMOUNT_MINOR_MAX:
            make = self._make(ROOT, AssetCode(found.asset))
            self._decide(make.withdrawal(account, found.balance, key=self._key(None)))
        self.close(account)

    @rule(source=accounts, destination=accounts, closes_source=st.booleans(), is_seen=st.booleans())
    def cross_to_an_account_that_closes(
        self,
        source: AccountId,
        destination: AccountId,
        closes_source: bool,
        is_seen: bool,
    ) -> None:
        """The credit meets a closed account; its return may meet one too."""
        sender = self.model.accounts.get(source)
        if sender is None or sender.held or not 0 < sender.balance <= AMOUNT_MINOR_MAX:
            return
        self._decide(self._make(ROOT, ASSETS[0]).transfer(source, destination, sender.balance, key=self._key(None)))
        if is_seen:
            self._commit()
        self.empty_and_close(destination)
        if closes_source:
            self.close(source)
        self._commit()

    @rule(account=accounts)
    def nobody_heard_of_the_closing(self, account: AccountId) -> None:
        """As if another worker had closed it after the others had read of it."""
        found, facts = self.model.accounts.get(account), self.ledger.facts.get(account)
        if facts is not None and found is not None and found.status == "closed":
            self.ledger.facts[account] = replace(facts, is_closed=False)
            self.model.believed_open.add(account)

    @rule(source=accounts, destination=accounts)
    def cross_twice_to_an_account_whose_closing_nobody_heard_of(
        self, source: AccountId, destination: AccountId
    ) -> None:
        """What comes back tells of it."""
        self.empty_and_close(destination)
        self.nobody_heard_of_the_closing(destination)
        for _ in range(2):
            self.transfer_a_little(source, destination, 1)
            for _ in range(3):  # out, back, home
                self._take_in_waiting(10_000)
                self._commit()

    @rule(source=accounts, destination=accounts, slack=st.integers(0, 3), amount=st.integers(1, 5))
    def cross_to_an_account_at_the_bound(
        self, source: AccountId, destination: AccountId, slack: int, amount: int
    ) -> None:
        self.fill_to_the_bound(destination, slack)
        self._decide(self._make(ROOT, ASSETS[0]).transfer(source, destination, amount, key=self._key(None)))

    @rule(account=accounts, slack=st.integers(0, 60))
    def fill_to_the_bound(self, account: AccountId, slack: int) -> None:
        """As a million deposits would."""
        found = self.model.accounts.get(account)
        state = self.states[partition_of(account, P)]
        if found is None or found.status == "closed":
            return
        world = system_account("world", AssetCode(found.asset), state.partition)
        pool = self.model.account(world)
        added = BALANCE_MINOR_MAX - slack - found.balance
        # Nor can one entry carry more than a balance may be: from below zero, that much would be two deposits.
        if pool is None or not 0 < added <= BALANCE_MINOR_MAX or pool.balance - added < -BALANCE_MINOR_MAX:
            return
        self._load(state, [account, world])
        operation = command_id(self._key(None))
        filled, emptied = state.account(account), state.account(world)
        assert filled is not None
        assert emptied is not None
        batch = state.open_batch()
        batch.enter(emptied, operation, -added)
        batch.enter(filled, operation, added)
        batch.add_operation(
            OperationRow(
                operation,
                "deposit.v1",
                ROOT,
                fingerprint(operation),
                postings=f'[["{world}","{account}","{added}","{found.asset}"]]',
                assets=(found.asset,),
            )
        )
        found.balance += added
        pool.balance -= added

    @rule(account=accounts, amount=amounts, who=principals, destination=st.one_of(st.none(), accounts), key=keys)
    def place_hold(
        self,
        account: AccountId,
        amount: int,
        who: Principal,
        destination: AccountId | None,
        key: int | None,
    ) -> None:
        make = self._make(who, ASSETS[0])
        self.placed.append(make.hold(account, amount, key=self._key(key)))
        self._decide(self.placed[-1])

    @rule(account=accounts, is_kept=st.booleans())
    def place_a_hold_and_end_it_in_one_batch(self, account: AccountId, is_kept: bool) -> None:
        """What is not committed stays in memory, whatever is forgotten."""
        hold = self._make(ROOT, ASSETS[0]).hold(account, 1, key=self._key(None))
        self._decide(hold)
        if not is_kept:
            self.forget_accounts(0)
        self._decide(self._make(ROOT, ASSETS[0]).void(hold, key=self._key(None)))

    @rule(account=accounts, number=st.integers(0, 30))
    def place_a_hold_under_a_used_id(self, account: AccountId, number: int) -> None:
        # In another partition only the database finds it, as a key that is taken.
        placed = [
            identity
            for identity, hold in self.model.holds.items()
            if partition_of(AccountId(hold.account), P) == partition_of(account, P)
        ]
        if placed:
            used = placed[number % len(placed)]
            self._decide(
                self._make(ROOT, ASSETS[0]).hold(account, 1, key=self._key(None)).model_copy(update={"hold": used})
            )

    @rule(number=st.integers(0, 30), destination=places, who=principals)
    def capture(self, number: int, destination: AccountId, who: Principal) -> None:
        if self.placed:
            hold = self.placed[number % len(self.placed)]
            self._decide(self._make(who, ASSETS[0]).capture(hold, destination, key=self._key(None)))

    @rule(number=st.integers(0, 30))
    def void(self, number: int) -> None:
        if self.placed:
            hold = self.placed[number % len(self.placed)]
            self._decide(self._make(ROOT, ASSETS[0]).void(hold, key=self._key(None)))

    @rule(number=st.integers(0, 100))
    def repeat(self, number: int) -> None:
        if self.sent:
            partition, command = self.sent[-1 - number % len(self.sent)]
            self._decide(command, partition)

    @rule(number=st.integers(0, 100), is_known=st.booleans())
    def cancel(self, number: int, is_known: bool) -> None:
        partition, known = self.sent[-1 - number % len(self.sent)] if self.sent else (Partition(0), None)
        make = self._make(ROOT, ASSETS[0])
        identity = known.id if is_known and known is not None else CommandId(command_id(self._key(None)))
        cancel: OperationCancel = make.cancel(identity)
        self._decide(cancel, partition)

    @rule(rows_max=st.integers(0, 5))
    def commit(self, rows_max: int) -> None:
        self._take_in_waiting(rows_max)
        self._commit()

    @rule()
    def lose_what_is_not_committed(self) -> None:
        self.model = copy.deepcopy(self.kept)
        self.ledger.recent.clear()
        self.ledger.recent.update(known_operations(self.journal))
        self._begin_states()
        self.model.believed_open.clear()
        for account in self.ledger.facts:
            self._compare_facts(account)

    @rule(accounts_max=st.integers(0, 6))
    def forget_accounts(self, accounts_max: int) -> None:
        for state in self.states.values():
            state.trim(accounts_max)

    @rule()
    def forget_other_partitions_accounts(self) -> None:
        self.ledger.facts.clear()
        self.model.believed_open.clear()


def test_a_transit_row_is_taken_in_once_and_in_order() -> None:
    state = PartitionState(LedgerState(P, {ASSETS[0]: 2}), Partition(1), 0, {})
    take_in(state, Partition(0), 7, [])
    for batch in (7, 6):
        with pytest.raises(InvariantBroken):
            take_in(state, Partition(0), batch, [])
    take_in(state, Partition(2), 1, [])
    assert state.cursors == {0: 7, 2: 1}


TestLedgerCore = LedgerCore.TestCase
if os.environ.get("TEST_PROFILE", "quick") == "quick":
    TestLedgerCore.settings = hypothesis.settings(max_examples=250, stateful_step_count=40, deadline=None)
