"""Amounts: whole numbers of minor units internally, decimal strings in the API. No float, no Decimal."""

import re

AMOUNT = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,30}))?", re.ASCII)
AMOUNT_MINOR_MAX = 10**30
BALANCE_MINOR_MAX = 10**36
SCALE_MAX = 30


class AmountError(ValueError):
    """The text is not an amount of the asset. `code` is the problem code of docs/API.md."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def parse_amount(text: str, scale: int) -> int:
    """Minor units (1 … 10^30) of a decimal string such as "12.34" for an asset of `scale` digits. Never rounds.

    The pattern is checked before any number is made: `int(Decimal("1e1000000"))` takes minutes.
    Raises AmountError: invalid_request, amount_scale, amount_not_positive or limit_exceeded.
    """
    match = AMOUNT.fullmatch(text)
    if match is None:
        raise AmountError("invalid_request", 'an amount is a string of decimal digits such as "12.34"')
    whole, fraction = match[1], match[2] or ""
    if len(fraction) > scale:
        raise AmountError("amount_scale", f"the asset has {scale} fraction digits")
    minor = int(whole + fraction.ljust(scale, "0"))
    if minor == 0:
        raise AmountError("amount_not_positive", "an amount is greater than zero")
    if minor > AMOUNT_MINOR_MAX:
        raise AmountError("limit_exceeded", "an amount is at most 10^30 minor units")
    return minor


def format_amount(minor: int, scale: int) -> str:
    """The shortest decimal string: "0.5", "500.1", "37", "-2"; no exponent, at least one digit before the point."""
    sign, digits = ("-", str(-minor)) if minor < 0 else ("", str(minor))
    if scale:
        digits = digits.rjust(scale + 1, "0")
        fraction = digits[-scale:].rstrip("0")
        digits = f"{digits[:-scale]}.{fraction}" if fraction else digits[:-scale]
    return sign + digits
