"""Why a command is rejected, in order of precedence."""

from enum import StrEnum


class Rejection(StrEnum):
    """A decision of the ledger, never a fault. Where several apply to one command, the earlier member wins."""

    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    CANCELLED = "cancelled"
    UNKNOWN_ASSET = "unknown_asset"
    ALREADY_EXISTS = "already_exists"
    SAME_ACCOUNT = "same_account"
    ACCOUNT_NOT_FOUND = "account_not_found"
    HOLD_NOT_OPEN = "hold_not_open"
    ASSET_MISMATCH = "asset_mismatch"
    ACCOUNT_CLOSED = "account_closed"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_NOT_EMPTY = "account_not_empty"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    LIMIT_EXCEEDED = "limit_exceeded"
    ADDRESS_REFUSED = "address_refused"
    INTERNAL_ERROR = "internal_error"
