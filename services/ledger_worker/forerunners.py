"""Envelopes that came straight from their senders, ahead of the broker's copies (ADR 15).

A forerunner is decided like any delivery. The broker's copy of it, which may come before, meanwhile, after or never, is
acknowledged once its forerunner is finished, and decided only if nothing is known of one: forgetting is always safe.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.ledger_worker.ports import Inbound
from shared.ids import Partition

# What is older has no copy to come, or one that is found decided.
KNOWN_MAX: Final = 1_024

# Sender and signature of an envelope's bytes. Two that are alike have the same effect: either may stand for the other.
Likeness: TypeAlias = tuple[Partition, str | None, str | None]


@dataclass(slots=True, eq=False)
class Forerunner:
    """What became of one: `copy` is the broker's, if it came before all was finished."""

    copy: Inbound | None = None
    is_finished: bool = False


class Forerunners:
    """Those whose copy has not come, and (None) copies whose forerunner has not come."""

    def __init__(self) -> None:
        self._known: OrderedDict[Likeness, Forerunner | None] = OrderedDict()

    def overtaken(self, inbound: Inbound) -> bool:
        """Whether the broker's copy of this forerunner was faster."""
        key = _likeness(inbound)
        if key in self._known and self._known[key] is None:
            del self._known[key]
            return True
        return False

    def add(self, inbound: Inbound) -> Forerunner | None:
        """Knows a forerunner from here on; None if one like it is known: this one is decided for itself."""
        key = _likeness(inbound)
        if key in self._known:
            return None
        forerunner = Forerunner()
        self._remember(key, forerunner)
        return forerunner

    def meet(self, copy: Inbound) -> Forerunner | None:
        """The forerunner of a copy that the broker delivers; None: it must be decided."""
        key = _likeness(copy)
        forerunner = self._known.pop(key, None)
        if forerunner is None:
            self._remember(key, None)
        return forerunner

    def forget(self, partition: Partition) -> None:
        """Whatever is known of its queue: what waited in its line was dropped."""
        for key in [key for key in self._known if key[0] == partition]:
            del self._known[key]

    def _remember(self, key: Likeness, forerunner: Forerunner | None) -> None:
        self._known[key] = forerunner
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)


def _likeness(inbound: Inbound) -> Likeness:
    return inbound.partition, inbound.reply_to, inbound.mac
