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
    Move,
    OperationCancel,
    OperationRefuse,
    RefusedKind,
    routed_by,
)
from shared.messages.events import BatchEvent, EventMessage, Nudge
from shared.messages.mixer import MixCreate, MixMessage
from shared.messages.replies import FieldError, Outcome, Reply, Settled

__all__ = [
    "AccountClose",
    "AccountCreate",
    "AccountUpdate",
    "AssetCreate",
    "BatchEvent",
    "Command",
    "CommandEnvelope",
    "EventMessage",
    "FieldError",
    "HoldCapture",
    "HoldPlace",
    "HoldVoid",
    "MixCreate",
    "MixMessage",
    "Move",
    "Nudge",
    "OperationCancel",
    "OperationRefuse",
    "Outcome",
    "RefusedKind",
    "Reply",
    "Settled",
    "routed_by",
]
