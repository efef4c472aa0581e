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

# Of one envelope and its copy alike, and of no other: partition of the queue, sender, id and signature.
Likeness: TypeAlias = tuple[Partition, str | None, str | None, str | None]


@dataclass(slots=True, eq=False)
class Forerunner:
    """What became of one: `copy` is the broker's, if it came before all was finished."""

    copy: Inbound | None = None
    is_finished: bool = False


class Forerunners:
    """Those whose copy has not come, and (None) copies whose forerunner has not come."""

    def __init__(self) -> None:
        self._known: OrderedDict[Likeness, Forerunner | None] = OrderedDict()

    def is_overtaken(self, inbound: Inbound) -> bool:
        """Whether the broker's copy of this forerunner was faster."""
        return _likeness(inbound) in self._known

    def add(self, inbound: Inbound) -> Forerunner:
        """Knows a forerunner from here on."""
        forerunner = Forerunner()
        self._remember(inbound, forerunner)
        return forerunner

    def meet(self, copy: Inbound) -> Forerunner | None:
        """The forerunner of a copy that the broker delivers; None: the copy must be decided."""
        forerunner = self._known.pop(_likeness(copy), None)
        if forerunner is None:
            self._remember(copy, None)
        return forerunner

    def forget(self, partition: Partition) -> None:
        """Whatever is known of its queue: what waited in its line was dropped."""
        for key in [key for key in self._known if key[0] == partition]:
            del self._known[key]

    def _remember(self, inbound: Inbound, forerunner: Forerunner | None) -> None:
        self._known[_likeness(inbound)] = forerunner
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)


def _likeness(inbound: Inbound) -> Likeness:
    return inbound.partition, inbound.reply_to, inbound.message_id, inbound.mac
