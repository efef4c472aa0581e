"""Commands: requests to change the ledger, and the envelope that carries those gathered for one partition."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from shared.domain.rejections import Rejection
from shared.messages.base import (
    COMMANDS_PER_ENVELOPE_MAX,
    Account,
    Amount,
    Asset,
    Fingerprint,
    Hold,
    Id,
    Limit,
    Message,
    Owner,
    Text,
)
from shared.messages.replies import FieldFault


class _Command(Message):
    """What every command carries. `fingerprint`: over what the client sent."""

    id: Id
    principal: Owner
    admin: bool = False
    fingerprint: Fingerprint
    reference: Text | None = None
    metadata: Text | None = None
    # The sender has reason to think that the id was seen before: look it up before deciding.
    repeat: bool = False


class Posting(Message):
    """One movement: `amount` minor units of `asset` from `source` to `destination`."""

    source: Account
    destination: Account
    amount: Amount
    asset: Asset


class PostTransaction(_Command):
    """Posts a transaction, which has exactly one posting in this version.

    A deposit comes from the `world` (or `house`) account of the destination's partition, a withdrawal goes to that of
    the source's.
    """

    kind: Literal["deposit.v1", "withdrawal.v1", "transfer.v1"]
    postings: Annotated[tuple[Posting, ...], Field(min_length=1, max_length=1)]


class AccountCreate(_Command):
    """Opens `account` with this metadata. With kind `mix.create.v1` it opens the account of an accepted mix order."""

    kind: Literal["account.create.v1", "mix.create.v1"] = "account.create.v1"
    account: Account
    asset: Asset
    owner: Owner
    overdraft_limit: Limit = 0


class AccountUpdate(_Command):
    """Changes the fields that are not None. `metadata` replaces all of the account's metadata.

    `metadata_patch` merges into it instead (RFC 7396): JSON text, in which null deletes.
    """

    kind: Literal["account.update.v1"] = "account.update.v1"
    account: Account
    overdraft_limit: Limit | None = None
    status: Literal["open", "frozen"] | None = None
    metadata_patch: Text | None = None


class AccountClose(_Command):
    """Closes `account` for good: refused unless its balance and its holds are zero."""

    kind: Literal["account.close.v1"] = "account.close.v1"
    account: Account


class AssetCreate(_Command):
    """Adds an asset, with 10^scale minor units to the unit. Is sent to partition 0."""

    kind: Literal["asset.create.v1"] = "asset.create.v1"
    asset: Asset
    scale: Annotated[int, Field(ge=0, le=30)]
    name: Annotated[str, Field(min_length=1, max_length=128)]


class HoldPlace(_Command):
    """Sets `amount` aside on `account`. Without `expires_in_s` only a capture or a void ends it."""

    kind: Literal["hold.place.v1"] = "hold.place.v1"
    hold: Hold
    account: Account
    amount: Amount
    asset: Asset
    destination: Account | None = None
    expires_in_s: Annotated[int, Field(gt=0, le=10 * 366 * 86_400)] | None = None


class HoldCapture(_Command):
    """Moves the whole held amount from `account` to `destination`, which lies in the same or another partition."""

    kind: Literal["hold.capture.v1"] = "hold.capture.v1"
    hold: Hold
    account: Account
    destination: Account


class HoldVoid(_Command):
    """Gives the held amount back to the account's available funds."""

    kind: Literal["hold.void.v1"] = "hold.void.v1"
    hold: Hold
    account: Account


class OperationCancel(_Command):
    """Rejects the command `id`, whose outcome is unknown to its sender, as `cancelled`, unless it has an outcome."""

    kind: Literal["operation.cancel.v1"] = "operation.cancel.v1"


RefusedKind: TypeAlias = Literal[
    "deposit.v1",
    "withdrawal.v1",
    "transfer.v1",
    "account.create.v1",
    "account.update.v1",
    "account.close.v1",
    "mix.create.v1",
    "operation.cancel.v1",
]


class OperationRefuse(_Command):
    """Records that the sender itself refuses a request of kind `of`: `id` gets the outcome rejected, with `code`.

    A repeat then gets the same answer, even if the reason is gone by then. `errors` name fields of the request.
    For a refused cancel, `id` comes from the cancel's own idempotency key: it is not the operation to be cancelled.
    """

    kind: Literal["operation.refuse.v1"] = "operation.refuse.v1"
    of: RefusedKind
    code: Rejection
    errors: tuple[FieldFault, ...] = ()


class OperatorDecision(_Command):
    """Records what an operator decided about what `reference` names: who, when and, in `metadata`, why.

    It changes nothing else. What was decided is done afterwards: about payouts by the distributor, about
    deposits by the poller, which find this in the journal, else by whoever sent this.
    """

    kind: Literal[
        "dead_letter.retry.v1",
        "dead_letter.resolve.v1",
        "suspense.resolve.v1",
        "payout.retry.v1",
        "payout.resolve.v1",
        "payout.cancel.v1",
        "deposit.retry.v1",
        "deposit.resolve.v1",
    ]


Command = Annotated[
    PostTransaction
    | AccountCreate
    | AccountUpdate
    | AccountClose
    | AssetCreate
    | HoldPlace
    | HoldCapture
    | HoldVoid
    | OperationCancel
    | OperationRefuse
    | OperatorDecision,
    Field(discriminator="kind"),
]


class CommandEnvelope(Message):
    """Commands of one partition, in the order in which they were sent."""

    v: Literal[1] = 1
    commands: Annotated[tuple[Command, ...], Field(min_length=1, max_length=COMMANDS_PER_ENVELOPE_MAX)]
