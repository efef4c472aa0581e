"""Commands and accounts as tests want them: valid, distinct, and only what matters to the test spelled out.

The same `key` gives the same command id; the same content gives the same fingerprint, as at a gateway.
"""

import hashlib
import itertools
from dataclasses import dataclass, field
from typing import Literal

from shared.domain.ids import (
    AccountId,
    AssetCode,
    CommandId,
    CommandIds,
    HoldId,
    Partition,
    Principal,
    derived_id,
    partition_of,
    system_account,
)
from shared.domain.rejections import Rejection
from shared.messages import (
    AccountClose,
    AccountCreate,
    AccountUpdate,
    AssetCreate,
    Command,
    CommandEnvelope,
    HoldCapture,
    HoldPlace,
    HoldVoid,
    OperationCancel,
    OperationRefuse,
    OperatorDecision,
    Posting,
    PostTransaction,
)

SECRET = "a secret of thirty-two characters"
ALICE = Principal("alice")
USD = AssetCode("USD")
IDS = CommandIds(SECRET)
_numbers = itertools.count()


def command_id(key: str | None = None, principal: Principal = ALICE) -> CommandId:
    """The id of an idempotency key, or a fresh one."""
    return IDS.fresh(principal) if key is None else IDS.of_key(principal, key)


def fingerprint(*content: object) -> str:
    """32 hex digits, the same for the same content."""
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


def account_in(partition: int, partitions: int = 4, *, prefix: str = "acc") -> AccountId:
    """A new account id that lies in this partition."""
    names = (AccountId(f"{prefix}-{number}") for number in _numbers)
    return next(name for name in names if partition_of(name, partitions) == Partition(partition))


@dataclass(frozen=True, slots=True)
class Commands:
    """Builds commands of one principal for a ledger of so many partitions."""

    principal: Principal = ALICE
    admin: bool = True
    asset: AssetCode = USD
    partitions: int = 4
    ids: CommandIds = field(default=IDS, repr=False)

    def world(self, account: AccountId) -> AccountId:
        """Where deposits to `account` come from: the system account of the same partition."""
        return system_account("world", self.asset, partition_of(account, self.partitions))

    def open(self, account: AccountId, *, overdraft_limit: int = 0, key: str | None = None) -> AccountCreate:
        """Opens `account` for the principal."""
        return AccountCreate(
            id=command_id(key, self.principal),
            principal=self.principal,
            admin=self.admin,
            fingerprint=fingerprint("open", account, self.asset, overdraft_limit),
            account=account,
            asset=self.asset,
            owner=self.principal,
            overdraft_limit=overdraft_limit,
        )

    def transfer(
        self,
        source: AccountId,
        destination: AccountId,
        amount: int,
        *,
        kind: Literal["deposit.v1", "withdrawal.v1", "transfer.v1"] = "transfer.v1",
        key: str | None = None,
    ) -> PostTransaction:
        """One posting of `amount` minor units."""
        return PostTransaction(
            kind=kind,
            id=command_id(key, self.principal),
            principal=self.principal,
            admin=self.admin,
            fingerprint=fingerprint(kind, source, destination, amount, self.asset),
            postings=(Posting(source=source, destination=destination, amount=amount, asset=self.asset),),
        )

    def deposit(self, account: AccountId, amount: int, *, key: str | None = None) -> PostTransaction:
        """Coins from the world of the account's own partition."""
        return self.transfer(self.world(account), account, amount, kind="deposit.v1", key=key)

    def withdrawal(self, account: AccountId, amount: int, *, key: str | None = None) -> PostTransaction:
        """Coins back to the world."""
        return self.transfer(account, self.world(account), amount, kind="withdrawal.v1", key=key)

    def update(
        self,
        account: AccountId,
        *,
        overdraft_limit: int | None = None,
        status: Literal["open", "frozen"] | None = None,
        metadata_patch: str | None = None,
        key: str | None = None,
    ) -> AccountUpdate:
        """Changes what is given."""
        return AccountUpdate(
            id=command_id(key, self.principal),
            principal=self.principal,
            admin=self.admin,
            fingerprint=fingerprint("update", account, overdraft_limit, status, metadata_patch),
            account=account,
            overdraft_limit=overdraft_limit,
            status=status,
            metadata_patch=metadata_patch,
        )

    def close(self, account: AccountId, *, key: str | None = None) -> AccountClose:
        """Closes `account` for good."""
        return AccountClose(
            id=command_id(key, self.principal),
            principal=self.principal,
            admin=self.admin,
            fingerprint=fingerprint("close", account),
            account=account,
        )

    def asset_create(self, asset: str, scale: int, *, key: str | None = None) -> AssetCreate:
        """Makes an asset known."""
        return AssetCreate(
            id=command_id(key, self.principal),
            principal=self.principal,
            admin=self.admin,
            fingerprint=fingerprint("asset", asset, scale),
            asset=AssetCode(asset),
            scale=scale,
            name=f"{asset} of a test",
        )

    def hold(
        self,
        account: AccountId,
        amount: int,
        *,
        destination: AccountId | None = None,
        expires_in_s: int | None = None,
        key: str | None = None,
    ) -> HoldPlace:
        """Sets `amount` aside; the hold's id derives from the command's."""
        identity = command_id(key, self.principal)
        return HoldPlace(
            id=identity,
            principal=self.principal,
            admin=self.admin,
            fingerprint=fingerprint("hold", account, amount, self.asset, destination, expires_in_s),
            hold=HoldId(derived_id(identity, "hold")),
            account=account,
            amount=amount,
            asset=self.asset,
            destination=destination,
            expires_in_s=expires_in_s,
        )

    def capture(self, placed: HoldPlace, destination: AccountId, *, key: str | None = None) -> HoldCapture:
        """Moves what `placed` holds to `destination`."""
        return HoldCapture(
            id=command_id(key, self.principal),
            principal=self.principal,
            admin=self.admin,
            fingerprint=fingerprint("capture", placed.hold, destination),
            hold=placed.hold,
            account=placed.account,
            destination=destination,
        )

    def void(self, placed: HoldPlace, *, key: str | None = None) -> HoldVoid:
        """Gives back what `placed` holds."""
        return HoldVoid(
            id=command_id(key, self.principal),
            principal=self.principal,
            admin=self.admin,
            fingerprint=fingerprint("void", placed.hold),
            hold=placed.hold,
            account=placed.account,
        )

    def cancel(self, unknown: CommandId) -> OperationCancel:
        """Ends an unknown for good."""
        return OperationCancel(
            id=unknown, principal=self.principal, admin=self.admin, fingerprint=fingerprint("cancel", unknown)
        )

    def refuse(self, code: Rejection, key: str | None = None) -> OperationRefuse:
        """What a sender found that it cannot ask for."""
        return OperationRefuse(
            id=command_id(key, self.principal),
            principal=self.principal,
            fingerprint=fingerprint("refuse", code),
            of="transfer.v1",
            code=code,
        )

    def decision(self, key: str | None = None) -> OperatorDecision:
        """What an operator decided."""
        return OperatorDecision(
            kind="dead_letter.resolve.v1",
            id=command_id(key, self.principal),
            principal=self.principal,
            fingerprint=fingerprint("decision"),
            reference="a message",
            metadata='{"why":"a test"}',
        )


def envelope(*commands: Command) -> CommandEnvelope:
    """What a gateway would send for one partition."""
    return CommandEnvelope(commands=commands)
