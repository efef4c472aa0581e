"""What the network's API accepts and what it returns, without HTTP: fields in, JSON out."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from services.jobcoin_network.core.coins import AmountMalformedError, AmountNotPositiveError, coins_text, read_amount
from services.jobcoin_network.core.instances import CoinAddress, CoinMovement, Instance, Transaction, creation

ADDRESS_LENGTH_MAX = 256
REQUIRED = "This field is required."


class RequestRefusedError(ValueError):
    """The request cannot be applied. `error` is a sentence, or messages by field."""

    def __init__(self, error: str | Mapping[str, list[str]]) -> None:
        super().__init__(str(error))
        self.error = error


def read_transfer(fields: Mapping[str, str]) -> CoinMovement:
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
    return CoinMovement(CoinAddress(fields["fromAddress"]), CoinAddress(fields["toAddress"]), amount)


def read_creation(fields: Mapping[str, str]) -> CoinMovement:
    """The 50 new coins that the field `address` asks for. Raises RequestRefusedError."""
    if error := _address_error(fields.get("address")):
        raise RequestRefusedError({"address": [error]})
    return creation(CoinAddress(fields["address"]))


def timestamp_text(timestamp_ms: int) -> str:
    """ISO 8601 in UTC, always with three fraction digits and Z, since clients parse exactly that."""
    seconds, ms = divmod(timestamp_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"


def transaction_json(transaction: Transaction) -> bytes:
    """A transaction as an object of the lists. Created coins have no key `fromAddress`."""
    movement = transaction.movement
    sender = {} if movement.sender is None else {"fromAddress": movement.sender}
    recipient = {"toAddress": movement.recipient, "amount": movement.amount.text}
    shown = {"timestamp": timestamp_text(transaction.timestamp_ms), **sender, **recipient}
    return json.dumps(shown, separators=(",", ":")).encode()


def list_json(instance: Instance) -> bytes:
    """All transactions as an array, oldest first."""
    return b"[" + b",".join(_rows(instance)) + b"]"


def address_json(instance: Instance, address: CoinAddress) -> bytes:
    """Balance and transactions of an address: "0" and none if it was never used."""
    rows = _rows(instance)
    own = b",".join(rows[position] for position in instance.positions.get(address, ()))
    return b'{"balance":"%s","transactions":[%s]}' % (coins_text(instance.balances[address]).encode(), own)


def _rows(instance: Instance) -> list[bytes]:
    """Each transaction is rendered once: clients read the whole list several times a second."""
    fresh = instance.transactions[len(instance.rendered) :]
    instance.rendered.extend(map(transaction_json, fresh))
    return instance.rendered


def _address_error(address: str | None) -> str | None:
    if not address:
        return REQUIRED
    if len(address) > ADDRESS_LENGTH_MAX:
        return f"An address has at most {ADDRESS_LENGTH_MAX} characters."
    if any("\ud800" <= character <= "\udfff" for character in address):
        return "An address is Unicode text."
    return None
