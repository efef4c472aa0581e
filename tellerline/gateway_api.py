"""Calls the HTTP API of a gateway, like any other client."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar, cast

import aiohttp
import click
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.runtime.settings import PREFIX
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.stack_options import data_dir_option

REFUSED, NOT_RUN = 1, 2
GATEWAY_URL: Final = f"{PREFIX}GATEWAY_URL"
API_KEY: Final = f"{PREFIX}API_KEY"
TIMEOUT_S: Final = 40.0
ACCEPTED: Final = 202
OK_MAX: Final = 299


class ApiObject(BaseModel):
    """A JSON object of the API. Fields without a name here are kept and printed with --json."""

    model_config = ConfigDict(extra="allow", frozen=True)


Answer = TypeVar("Answer", bound=ApiObject)


class FieldProblem(ApiObject):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemDetails(ApiObject):
    """RFC 9457, as far as it is shown here."""

    title: str
    detail: str = ""
    errors: tuple[FieldProblem, ...] = ()


class Refused(click.ClickException):
    """The API said no; the message says why."""

    exit_code = REFUSED


class Undecided(Refused):
    """There is no outcome yet. The same request again, with its key, gets it."""


class NotReached(click.ClickException):
    """There is no gateway that could be asked."""

    exit_code = NOT_RUN


class GatewayClient:
    """Calls one gateway with one API key. Every method raises Refused, of which Undecided is one, or NotReached."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._key = key

    @classmethod
    def found(cls, url: str | None, key: str | None, data_dir: Path) -> "GatewayClient":
        """The client for the options, else the environment, else the running stack."""
        url, key = url or os.environ.get(GATEWAY_URL), key or os.environ.get(API_KEY)
        if url and key:
            return cls(url, key)
        stack = DataDir(data_dir)
        state = stack.read_state()
        if state is None or not state.get("gateway"):
            raise NotReached(f"nothing runs in {stack.path}; give --url and --api-key")
        if key is None and url is not None and url.rstrip("/") not in cast("list[str]", state["gateways"]):
            raise NotReached(
                f"{url} is no gateway of the stack in {stack.path}, whose key it must not see: give --api-key"
            )
        return cls(url or str(state["gateway"]), key or stack.admin_key())

    async def call(
        self,
        answer_type: type[Answer],
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The object that the API answers with."""
        sent = {"Authorization": f"Bearer {self._key}", **(headers or {})}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(method, self._url + path, json=body, headers=sent, allow_redirects=False) as answer,
            ):
                text, status = await answer.text(), answer.status
            if status == ACCEPTED:
                raise Undecided(
                    "there is no outcome yet: ask for the same again in a while (a mix: with the same --key)"
                )
            if status > OK_MAX:
                problem = ProblemDetails.model_validate_json(text)
                raise Refused(_reasons(problem))
            return answer_type.model_validate_json(text)
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError, ValidationError) as fault:
            raise NotReached(f"no answer of a gateway from {self._url} ({type(fault).__name__})") from fault


def _reasons(problem: ProblemDetails) -> str:
    """What was refused, and each field's reason in a line; once, where the detail is the reason of a field."""
    detail = problem.detail or problem.title
    reasons = [f"{error.field}: {error.message}" for error in problem.errors]
    return "\n".join([detail, *(f"  {reason}" for reason in reasons if reason != detail)])


def find_gateway_options(function: Callable[..., None]) -> Callable[..., None]:
    """--url, --api-key and --data-dir, given to the command as its `find_gateway`, which raises NotReached."""

    @click.option("--url", metavar="URL", help=f"The gateway; else ${GATEWAY_URL}, else the running stack's.")
    @click.option("--api-key", metavar="KEY", help=f"Else ${API_KEY}, else the running stack's admin key.")
    @data_dir_option
    @functools.wraps(function)
    def wrapped(*, url: str | None, api_key: str | None, data_dir: Path, **others: object) -> None:
        function(find_gateway=functools.partial(GatewayClient.found, url, api_key, data_dir), **others)

    return wrapped


def gateway_options(function: Callable[..., None]) -> Callable[..., None]:
    """--url, --api-key and --data-dir, given to the command as its `gateway`."""

    @find_gateway_options
    @functools.wraps(function)
    def wrapped(*, find_gateway: Callable[[], GatewayClient], **others: object) -> None:
        function(gateway=find_gateway(), **others)

    return wrapped
