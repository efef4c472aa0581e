"""Amounts of coins as this network's clients write them, kept exact: whole numbers of 10^-40 of a coin."""

import re

from shared.money import format_amount
from shared.values import value

COIN_SCALE = 40
DIGITS_MAX = 40
TEXT_LENGTH_MAX = 100
COIN = 10**COIN_SCALE
TOO_LONG = f"Amount may have at most {DIGITS_MAX} digits."

# The minus sign is read so that a negative amount gets the answer that says what is wrong with it.
AMOUNT = re.compile(r"(-?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)


class AmountError(ValueError):
    """The text is not an amount that this network moves."""


class AmountMalformedError(AmountError):
    """The text is no decimal number of at most 40 digits."""


class AmountNotPositiveError(AmountError):
    """The number is zero or less."""


@value
class Amount:
    """Coins to move: `units` of 10^-40 of a coin, > 0, and the decimal text that the network lists them with."""

    units: int
    text: str


def read_amount(text: str) -> Amount:
    """The amount of a text such as "12.50", ".5" or "5e-05". Plain decimals are listed as they were sent.

    What is listed can be read again. The pattern is checked before any number is made, and no power of ten is built
    past the bounds. Raises AmountMalformedError (over 40 digits too) or AmountNotPositiveError.
    """
    match = AMOUNT.fullmatch(text) if len(text) <= TEXT_LENGTH_MAX else None
    if match is None:
        raise AmountMalformedError("Amount must be a decimal number.")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", match[4]
    if not whole + fraction:
        raise AmountMalformedError("Amount must be a decimal number.")
    # The lone zero before the point is no digit of the number.
    if (0 if whole == "0" else len(whole)) + len(fraction) > DIGITS_MAX:
        raise AmountMalformedError(TOO_LONG)
    value = int(whole + fraction)
    if sign or value == 0:
        raise AmountNotPositiveError("Amount must be over 0!")
    units = _shifted(value, int(exponent or "0") - len(fraction))
    return Amount(units, text) if exponent is None else read_amount(coins_text(units))


def coins_text(units: int) -> str:
    """The canonical decimal of a balance: "0", "37.5", no exponent, no trailing zeros."""
    return format_amount(units, COIN_SCALE)


def _shifted(value: int, power: int) -> int:
    """Units of value * 10^power coins. Raises AmountMalformedError for over 40 digits on one side of the point."""
    while power < -COIN_SCALE and value % 10 == 0:
        value, power = value // 10, power + 1
    if power < -COIN_SCALE or power + len(str(value)) > DIGITS_MAX:
        raise AmountMalformedError(TOO_LONG)
    return value * 10 ** (power + COIN_SCALE)
