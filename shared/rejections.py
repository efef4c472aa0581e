"""Why a command is refused, in order of precedence, and the problem that the HTTP API shows for each (API.md)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from shared.values import value


class Rejection(StrEnum):
    """A decision of the ledger, never a fault. Where several apply to one command, the earlier member wins."""

    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    CANCELLED = "cancelled"
    UNKNOWN_ASSET = "unknown_asset"
    ALREADY_EXISTS = "already_exists"
    SAME_ACCOUNT = "same_account"
    ACCOUNT_NOT_FOUND = "account_not_found"
    ASSET_MISMATCH = "asset_mismatch"
    HOLD_NOT_OPEN = "hold_not_open"
    ACCOUNT_CLOSED = "account_closed"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_NOT_EMPTY = "account_not_empty"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    LIMIT_EXCEEDED = "limit_exceeded"
    ADDRESS_REFUSED = "address_refused"
    INTERNAL_ERROR = "internal_error"


@value
class Problem:
    """One kind of RFC 9457 problem: HTTP status and a title that never varies."""

    status: int
    title: str


# What the ledger decides. `internal_error` is the outcome of a command that broke the core: parked, seen by an
# operator.
PROBLEM_OF: Mapping[Rejection, Problem] = MappingProxyType(
    {
        Rejection.IDEMPOTENCY_KEY_REUSED: Problem(422, "The idempotency key was used with other content"),
        Rejection.CANCELLED: Problem(409, "The operation was cancelled"),
        Rejection.UNKNOWN_ASSET: Problem(422, "No such asset"),
        Rejection.ALREADY_EXISTS: Problem(409, "It exists already"),
        Rejection.SAME_ACCOUNT: Problem(422, "Source and destination are the same account"),
        Rejection.ACCOUNT_NOT_FOUND: Problem(422, "No such account"),
        Rejection.ASSET_MISMATCH: Problem(422, "The assets differ"),
        Rejection.HOLD_NOT_OPEN: Problem(409, "The hold is not open"),
        Rejection.ACCOUNT_CLOSED: Problem(422, "The account is closed"),
        Rejection.ACCOUNT_FROZEN: Problem(422, "The account is frozen"),
        Rejection.ACCOUNT_NOT_EMPTY: Problem(409, "The account is not empty"),
        Rejection.INSUFFICIENT_FUNDS: Problem(422, "Not enough available funds"),
        Rejection.LIMIT_EXCEEDED: Problem(422, "The amount or the balance passes a limit"),
        Rejection.ADDRESS_REFUSED: Problem(422, "An address cannot be paid to"),
        Rejection.INTERNAL_ERROR: Problem(500, "The command could not be processed and was set aside"),
    }
)
