"""What a run showed, and whether it passed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from tellerline.chaos.audit import Audit, shown
from tellerline.chaos.client import Client, Command, Ended
from tellerline.chaos.plan import Kind

# Less than this means that the run proves little.
FAULTS_PER_MINUTE_MIN: Final = 12
ACKNOWLEDGED_PER_S_MIN: Final = 10


@dataclass(slots=True)
class Report:
    """Counts of one run. `recoveries`: kind of fault → seconds until the stack worked again; None: it never did.

    `kinds_planned`: each of them must have been done at least once.
    """

    seed: int
    minutes: float
    kinds_planned: Sequence[str]
    load_s: float = 0.0
    recoveries: dict[str, list[float | None]] = field(default_factory=dict[str, list[float | None]])
    missed: list[str] = field(default_factory=list[str])
    acknowledged: int = 0
    refused: int = 0
    not_sent: int = 0
    repeats: int = 0
    undecided: list[str] = field(default_factory=list[str])
    # Of the commands whose outcome was unknown at first: (how it became known, what it was) → how many.
    unknowns: Counter[tuple[Ended, str]] = field(default_factory=Counter[tuple[Ended, str]])
    lost: Sequence[str] = ()
    doubled: Sequence[str] = ()
    wrong: Sequence[str] = ()
    mixes: Mapping[str, int] = field(default_factory=dict[str, int])
    open_findings: int = 0

    @property
    def faults(self) -> int:
        """How many were done and are over."""
        return sum(len(each) for each in self.recoveries.values())

    def struck(self, kind: Kind, recovered_s: float | None) -> None:
        """Notes one fault."""
        self.recoveries.setdefault(kind.name, []).append(recovered_s)

    def audited(self, client: Client, audit: Audit) -> None:
        """Takes over what clients saw and what the audit found."""
        self.acknowledged = sum(command.posted for command in client.decided)
        self.refused = len(client.decided) - self.acknowledged
        self.not_sent, self.repeats = client.not_sent, client.repeats
        self.undecided = [f"{command.name} {command.key}" for command in client.open]
        self.unknowns.update((command.ended, _outcome(command)) for command in client.decided if command.was_unknown)
        self.lost, self.doubled, self.wrong, self.mixes = audit.lost, audit.doubled, audit.wrong, audit.mixes
        self.open_findings = audit.open_findings

    def failures(self) -> Sequence[str]:
        """Why the run failed; empty when it passed."""
        found = [f"lost: {each}" for each in shown(self.lost)]
        found += [f"doubled: {each}" for each in shown(self.doubled)]
        found += [f"wrong: {each}" for each in shown(self.wrong)]
        found += [f"no outcome: {each}" for each in shown(self.undecided)]
        found += [f"did not recover: {name}" for name, each in self.recoveries.items() if None in each]
        if self.faults < (wanted := int(FAULTS_PER_MINUTE_MIN * self.minutes)):
            found.append(f"too little happened: {self.faults} faults, wanted {wanted}")
        found += [f"too little happened: no {name}" for name in self.kinds_planned if name not in self.recoveries]
        if self.acknowledged < (wanted := int(ACKNOWLEDGED_PER_S_MIN * self.minutes * 60)):
            found.append(f"too little happened: {self.acknowledged} commands acknowledged, wanted {wanted}")
        if not self.unknowns:
            found.append("too little happened: no outcome was ever unknown")
        return found


def _outcome(command: Command) -> str:
    return "posted" if command.posted else "cancelled" if command.code == "cancelled" else "refused"


def as_object(report: Report) -> Mapping[str, object]:
    """For a program."""
    return {
        "ok": not report.failures(),
        "failures": report.failures(),
        "seed": report.seed,
        "minutes": report.minutes,
        "faults": {
            name: {"count": len(each), "recovery_s_median": _median(each), "recovery_s_max": _worst(each)}
            for name, each in sorted(report.recoveries.items())
        },
        "missed": report.missed,
        "acknowledged": report.acknowledged,
        "refused": report.refused,
        "not_sent": report.not_sent,
        "repeats": report.repeats,
        "unknowns": {f"{ended}, {outcome}": count for (ended, outcome), count in sorted(report.unknowns.items())},
        "undecided": report.undecided,
        "lost": list(report.lost),
        "doubled": list(report.doubled),
        "wrong": list(report.wrong),
        "mixes": report.mixes,
        "open_findings": report.open_findings,
    }


def as_table(report: Report) -> str:
    """For a person."""
    lines = [f"{'fault':<28} {'count':>5}  {'recovered after, median':>24}  {'worst':>8}"]
    for name, each in sorted(report.recoveries.items()):
        lines.append(f"{name:<28} {len(each):>5}  {_shown_s(_median(each)):>24}  {_shown_s(_worst(each)):>8}")
    lines += [
        f"{report.faults} faults in {report.load_s:.0f} s, {len(report.missed)} found nothing; seed {report.seed}",
        "",
        f"acknowledged {report.acknowledged:,}   refused {report.refused:,}   not sent at first {report.not_sent:,}",
        f"repeated after the outcome {report.repeats:,}   unknown at first {report.unknowns.total():,}, ended:",
        *(f"  {f'{ended}, {outcome}':<24} {count:>7,}" for (ended, outcome), count in sorted(report.unknowns.items())),
        f"lost {len(report.lost)}   doubled {len(report.doubled)}   without an outcome {len(report.undecided)}",
        f"findings of verify that are open: {report.open_findings}",
        f"mixes: {', '.join(f'{count} {status}' for status, count in report.mixes.items()) or 'none'}",
        "",
        *(report.failures() or ["Nothing was lost or done twice; verify holds."]),
    ]
    return "\n".join(lines)


def _median(seconds: Sequence[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return round(median(known), 2) if known else None


def _worst(seconds: Sequence[float | None]) -> float | None:
    return None if None in seconds else round(max(each for each in seconds if each is not None), 2)


def _shown_s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
