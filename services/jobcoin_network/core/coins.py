"""Amounts of coins as clients write them, kept exact: whole numbers of units of 10^-40 of a coin."""

import re
from dataclasses import dataclass

COIN_SCALE = 40
DIGITS_MAX = 40
TEXT_LENGTH_MAX = 100
COIN = 10**COIN_SCALE
TOO_LONG = f"Amount may have at most {DIGITS_MAX} digits."

# The minus sign is read, so that the error for a negative amount can say what is wrong with it.
AMOUNT = re.compile(r"(-?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)


class AmountMalformedError(ValueError):
    """The text is no decimal number of at most 40 digits."""


class AmountNotPositiveError(ValueError):
    """The number is zero or less."""


@dataclass(frozen=True, slots=True)
class CoinAmount:
    """Coins to move: `units` of 10^-40 of a coin, > 0, and the decimal `text` that the network lists."""

    units: int
    text: str


def read_amount(text: str) -> CoinAmount:
    """The amount of a text such as "12.50", ".5" or "5e-05". A plain decimal is listed as it was sent.

    The pattern and the size are checked before any number is made, since a short text can stand for a huge number.
    Raises AmountMalformedError (also for over 40 digits) or AmountNotPositiveError.
    """
    match = AMOUNT.fullmatch(text) if len(text) <= TEXT_LENGTH_MAX else None
    if match is None or not (match[2] or match[3]):
        raise AmountMalformedError("Amount must be a decimal number.")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", match[4]
    # A lone zero before the point does not count as a digit.
    if (0 if whole == "0" else len(whole)) + len(fraction) > DIGITS_MAX:
        raise AmountMalformedError(TOO_LONG)
    value = int(whole + fraction)
    if sign or value == 0:
        raise AmountNotPositiveError("Amount must be over 0!")
    units = _shifted(value, int(exponent or "0") - len(fraction))
    return CoinAmount(units, text) if exponent is None else read_amount(coins_text(units))


def coins_text(units: int) -> str:
    """The canonical decimal of a balance: "0", "37.5"; no exponent, no trailing zeros."""
    whole, fraction = divmod(units, COIN)
    return f"{whole}.{fraction:0{COIN_SCALE}}".rstrip("0").rstrip(".")


def _shifted(value: int, power: int) -> int:
    """Units of value * 10^power coins. Raises AmountMalformedError if a side of the point has over 40 digits."""
    while power < -COIN_SCALE and value % 10 == 0:
        value, power = value // 10, power + 1
    if power < -COIN_SCALE or power + len(str(value)) > DIGITS_MAX:
        raise AmountMalformedError(TOO_LONG)
    return value * 10 ** (power + COIN_SCALE)
