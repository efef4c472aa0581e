"""What the network's API accepts and what it returns, without HTTP: fields in, JSON out."""

from collections.abc import Mapping

from services.jobcoin_network.core.coins import AmountMalformedError, AmountNotPositiveError, coins_text, read_amount
from services.jobcoin_network.core.instances import Instance, creation
from services.jobcoin_network.core.transactions import CoinAddress, CoinMovement

ADDRESS_BYTES_MAX = 4096
FIELDS = frozenset({"fromAddress", "toAddress", "amount", "address"})
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


def address_head(instance: Instance, address: CoinAddress) -> bytes:
    """What stands before an address's transactions; after them stands `]}`. The balance is "0" if it was never used."""
    return b'{"balance":"%s","transactions":[' % coins_text(instance.balance(address)).encode()


def _address_error(address: str | None) -> str | None:
    if not address:
        return REQUIRED
    try:
        size = len(address.encode())
    except UnicodeEncodeError:
        return "An address is Unicode text."
    return f"An address has at most {ADDRESS_BYTES_MAX} bytes." if size > ADDRESS_BYTES_MAX else None
