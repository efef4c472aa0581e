"""`tellerline deposits`: what comes in to the mixer, and how an operator ends what no time heals, over the HTTP API."""

from tellerline.operator_commands import OperatedRow, operator_group


class FoundSweep(OperatedRow):
    """Deposits of one address that are swept together."""

    address: str
    planned_at: str

    @property
    def since(self) -> str:
        """When it was planned."""
        return self.planned_at


command = operator_group(
    "deposits",
    FoundSweep,
    about="Look at deposits on their way into the mixer, try them again, or write them off.",
    counted="sweeps of deposits",
    statuses=("stuck", "waiting", "sweeping", "resolved", "credited"),
    verbs={
        "retry": "Try deposits that wait or are stuck again now.",
        "resolve": "Write deposits off: they are never swept or credited.",
    },
)
