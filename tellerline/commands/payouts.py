"""`tellerline payouts`: what the mixer pays, and how an operator ends what no time heals, over the HTTP API."""

from tellerline.operator_commands import OperatedRow, operator_group


class FoundPayout(OperatedRow):
    """A payout."""

    destination: str
    due_at: str

    @property
    def since(self) -> str:
        """When it is due."""
        return self.due_at


command = operator_group(
    "payouts",
    FoundPayout,
    about="Look at payouts of the mixer, try them again, or end them.",
    counted="payouts",
    statuses=("stuck", "waiting", "sending", "planned", "cancelled", "resolved", "paid"),
    verbs={
        "retry": "Try a payout that waits or is stuck again now.",
        "resolve": "Say that a payout was paid by other means: nothing is sent, and its hold is captured.",
        "cancel": "Give up a payout for which nothing was sent: its amount stays on the mix's account.",
    },
)
