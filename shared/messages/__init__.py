"""What travels over RabbitMQ: frozen, closed, versioned pydantic models.

JSON Schemas of them stand in docs/messages/.
"""

from shared.messages.commands import (
    AccountClose,
    AccountCreate,
    AccountUpdate,
    AssetCreate,
    Command,
    CommandEnvelope,
    HoldCapture,
    HoldPlace,
    HoldVoid,
    OperationCancel,
    OperationRefuse,
    OperatorDecision,
    Posting,
    PostTransaction,
    RefusedKind,
)
from shared.messages.events import BatchEvent, EventMessage, EventOutcome, Nudge
from shared.messages.mixer import MixCreate, MixMessage
from shared.messages.replies import FieldFault, Outcome, Reply, Settled

__all__ = [
    "AccountClose",
    "AccountCreate",
    "AccountUpdate",
    "AssetCreate",
    "BatchEvent",
    "Command",
    "CommandEnvelope",
    "EventMessage",
    "EventOutcome",
    "FieldFault",
    "HoldCapture",
    "HoldPlace",
    "HoldVoid",
    "MixCreate",
    "MixMessage",
    "Nudge",
    "OperationCancel",
    "OperationRefuse",
    "OperatorDecision",
    "Outcome",
    "PostTransaction",
    "Posting",
    "RefusedKind",
    "Reply",
    "Settled",
]
