"""The content of a transit row: the credits of one source batch for one destination partition."""

import json
from collections.abc import Sequence
from typing import Final, Literal

from shared.domain.ids import AccountId, AssetCode, CommandId, Partition, derived_id
from shared.domain.money import BALANCE_MINOR_MAX
from shared.domain.values import value
from shared.runtime.compact_json import compact_json

VERSION = 2
# Rows of version 1 did not say what the lists of the destination need: their credits are listed as transfers.
LISTING_UNKNOWN = ("transfer.v1", None, "")
RETURN_KIND = "return.v1"
# From this balance on, in minor units, a transit account is netted (ADR 14).
NETTED_FROM: Final = BALANCE_MINOR_MAX // 1_000
# The fingerprint of a return, which is an operation that no client sent.
RETURN_FINGERPRINT = "0" * 31 + "1"


class TransitRowError(ValueError):
    """The row's content is not in the format of this version."""


@value
class TransitCredit:
    """One credit in transit from `source` to `account`.

    `operation` is the id of the operation that debited `source`, or of the return of a credit that could not land. Its
    kind and reference, and the owner whose list has it already ("" for none), are for the destination's lists.
    """

    operation: str
    account: AccountId
    asset: AssetCode
    amount: int  # minor units, > 0
    source: AccountId
    kind: Literal["credit", "return"]
    principal: str
    admin: bool
    reply_to: str | None
    operation_kind: str
    reference: str | None
    source_owner: str


def return_id(operation: str, destination: Partition) -> str:
    """The id of the operation that gives back a credit of `operation` which could not land in that partition."""
    return derived_id(CommandId(operation), f"return:{destination}")


def encode_credits(credits: Sequence[TransitCredit]) -> str:
    """The credits as compact JSON. Each reply queue is listed once, and a credit holds its index, or -1 for none."""
    replies: dict[str, int] = {}
    rows: list[list[str | int | None]] = []
    for credit in credits:
        reply = -1 if credit.reply_to is None else replies.setdefault(credit.reply_to, len(replies))
        rows.append(
            [
                credit.operation,
                credit.account,
                credit.asset,
                str(credit.amount),
                credit.source,
                credit.kind,
                credit.principal,
                int(credit.admin),
                reply,
                credit.operation_kind,
                credit.reference,
                credit.source_owner,
            ]
        )
    return compact_json({"v": VERSION, "replies": list(replies), "credits": rows}).decode()


def decode_credits(text: str) -> list[TransitCredit]:
    """The credits in the order of their debits. Raises TransitRowError."""
    try:
        row = json.loads(text)
        if row["v"] not in {1, VERSION}:
            raise TransitRowError(f"version {row['v']}")
        replies = row["replies"]
        return [
            TransitCredit(
                str(operation),
                AccountId(account),
                AssetCode(asset),
                int(amount),
                AccountId(source),
                kind,
                str(principal),
                bool(admin),
                None if reply < 0 else str(replies[reply]),
                str(of_kind),
                None if reference is None else str(reference),
                str(owner),
            )
            for operation, account, asset, amount, source, kind, principal, admin, reply, *listing in row["credits"]
            for of_kind, reference, owner in [listing or LISTING_UNKNOWN]
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise TransitRowError(repr(error)) from error
