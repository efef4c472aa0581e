"""What the network's API says and what it accepts, without HTTP: fields in, JSON out."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from services.jobcoin_network.core.chain import Address, Chain, Movement, Transaction, creation
from services.jobcoin_network.core.coins import AmountMalformedError, AmountNotPositiveError, coins_text, read_amount

ADDRESS_LENGTH_MAX = 256
REQUIRED = "This field is required."


class RequestRefusedError(ValueError):
    """The request asks for nothing that could be applied. `error` is a sentence, or messages by field."""

    def __init__(self, error: str | Mapping[str, list[str]]) -> None:
        super().__init__(str(error))
        self.error = error


def read_transfer(fields: Mapping[str, str]) -> Movement:
    """The movement that fromAddress, toAddress and amount ask for. Raises RequestRefusedError."""
    errors = {name: text for name in ("fromAddress", "toAddress") if (text := _address_error(fields.get(name)))}
    amount = None
    try:
        amount = read_amount(fields.get("amount") or "")
    except AmountMalformedError as fault:
        errors["amount"] = str(fault) if fields.get("amount") else REQUIRED
    except AmountNotPositiveError as fault:
        if not errors:
            raise RequestRefusedError(str(fault)) from fault
        errors["amount"] = str(fault)
    if errors or amount is None:
        raise RequestRefusedError({name: [text] for name, text in errors.items()})
    return Movement(Address(fields["fromAddress"]), Address(fields["toAddress"]), amount)


def read_creation(fields: Mapping[str, str]) -> Movement:
    """The 50 new coins that the field `address` asks for. Raises RequestRefusedError."""
    if error := _address_error(fields.get("address")):
        raise RequestRefusedError({"address": [error]})
    return creation(Address(fields["address"]))


def timestamp_text(timestamp_ms: int) -> str:
    """ISO 8601 in UTC, always with three fraction digits and Z: clients parse exactly that."""
    seconds, ms = divmod(timestamp_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"


def transaction_json(transaction: Transaction) -> bytes:
    """One object of the lists. Created coins have no key `fromAddress` at all."""
    movement = transaction.movement
    sender = {} if movement.sender is None else {"fromAddress": movement.sender}
    recipient = {"toAddress": movement.recipient, "amount": movement.amount.text}
    return _dump({"timestamp": timestamp_text(transaction.timestamp_ms), **sender, **recipient})


class Listing:
    """A chain's transactions as JSON. Each is rendered once: clients read the whole list several times a second."""

    __slots__ = ("_chain", "_rendered")

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._rendered: list[bytes] = []

    def all_json(self) -> bytes:
        """The whole list as a bare array, oldest first."""
        return b"[" + b",".join(self._rows()) + b"]"

    def address_json(self, address: Address) -> bytes:
        """Balance and transactions of an address; "0" and none for one that was never used."""
        rows = self._rows()
        own = b",".join(rows[position] for position in self._chain.positions(address))
        return b'{"balance":"%s","transactions":[%s]}' % (coins_text(self._chain.balance(address)).encode(), own)

    def _rows(self) -> list[bytes]:
        transactions = self._chain.transactions()
        for position in range(len(self._rendered), len(transactions)):
            self._rendered.append(transaction_json(transactions[position]))
        return self._rendered


def error_json(error: str | Mapping[str, list[str]]) -> bytes:
    """The body of every refusal."""
    return _dump({"error": error})


def _address_error(address: str | None) -> str | None:
    if not address:
        return REQUIRED
    if len(address) > ADDRESS_LENGTH_MAX:
        return f"An address has at most {ADDRESS_LENGTH_MAX} characters."
    if any("\ud800" <= character <= "\udfff" for character in address):
        return "An address is Unicode text."
    return None


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
