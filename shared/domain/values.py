"""The decorator for immutable value classes."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Made = TypeVar("Made")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(made: type[Made]) -> type[Made]:
    """A dataclass with slots that is immutable for the type checker, but not at run time.

    A frozen dataclass takes six times as long to construct (2.1 instead of 0.34 µs with eight fields), and each
    transfer constructs a dozen values.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)
