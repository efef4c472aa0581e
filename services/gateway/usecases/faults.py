"""Why a use case ends without an outcome. The HTTP layer turns each into a problem."""


class NotFound(Exception):
    """There is nothing of this name, or it is another owner's. The message says what was looked for."""


class NotAllowed(Exception):
    """The caller may not do this. The message says why."""


class WrongState(Exception):
    """What the request is about is in a state in which this cannot be done. The message says in which."""


class InvalidField(Exception):
    """A field of the request has a value that is not allowed. `code`: of the problem, such as `amount_scale`."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.code = code
        self.field = field
        self.message = message


class NotFinal(Exception):
    """More may still be recorded up to the instant that was asked for: a commit has been under way for too long."""


class CommandNotSent(Exception):
    """The broker takes no commands at the moment: the command had no effect."""


class TooManyCommands(Exception):
    """Too many commands wait, here or in the partition's queue: the command had no effect."""
