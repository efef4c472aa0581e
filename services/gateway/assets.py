"""/v1/assets."""

from typing import Annotated, Final

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from services.gateway.commands import identify, submit
from services.gateway.context import not_found
from services.gateway.fields import AssetName, fingerprint
from services.gateway.pages import cursor_after, position_of
from services.gateway.routes import Call, Route
from services.gateway.store.assets import AssetFacts, list_assets
from services.gateway.web.answers import Answer
from services.gateway.web.bodies import Body
from services.gateway.web.queries import ListQuery
from shared.api_keys import Scope
from shared.ids import Partition
from shared.messages import AssetCreate
from shared.money import SCALE_MAX

# Assets are few and belong to no account, so one line decides them.
PARTITION: Final = Partition(0)


class AssetNew(Body):
    """One unit of the asset is 10^scale minor units."""

    code: AssetName
    scale: Annotated[int, Field(ge=0, le=SCALE_MAX)]
    name: Annotated[str, Field(min_length=1, max_length=128)]


class AssetBody(TypedDict):
    """An asset."""

    code: str
    scale: int
    name: str
    links: dict[str, str]


AssetPage = TypedDict("AssetPage", {"data": list[AssetBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`
ASSET: TypeAdapter[AssetBody] = TypeAdapter(AssetBody)
PAGE: TypeAdapter[AssetPage] = TypeAdapter(AssetPage)


async def create(call: Call) -> Answer:
    """Makes an asset known."""
    body = await call.body(AssetNew)
    identity = identify(call)
    command = AssetCreate(
        id=identity.id,
        repeat=identity.repeat,
        principal=call.caller.principal,
        admin=call.caller.admin,
        fingerprint=fingerprint("POST /v1/assets", body.code, body.scale, body.name),
        asset=body.code,
        scale=body.scale,
        name=body.name,
    )
    posted = await submit(call, command, PARTITION)
    if isinstance(posted, Answer):
        return posted
    return posted.answer(201, ASSET.dump_json(_shown(AssetFacts(body.code, body.scale, body.name))))


async def show(call: Call) -> Answer:
    """One asset."""
    facts = await call.gateway.assets.find(call.path["code"])
    if facts is None:
        raise not_found("asset")
    return Answer(200, ASSET.dump_json(_shown(facts)))


async def show_all(call: Call) -> Answer:
    """Assets by code."""
    query = call.query(ListQuery)
    position = position_of(call, query)
    after = str(position[0]) if position else ""
    found = await list_assets(call.gateway.database, after=after, limit=query.limit + 1)
    page = found[: query.limit]
    following = cursor_after(call, query, [page[-1].code]) if len(found) > len(page) else None
    return Answer(200, PAGE.dump_json({"data": [_shown(each) for each in page], "next": following}))


def _shown(facts: AssetFacts) -> AssetBody:
    return {"code": facts.code, "scale": facts.scale, "name": facts.name, "links": {"self": f"/v1/assets/{facts.code}"}}


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/assets",
        handler=show_all,
        scope=Scope.READ,
        query=ListQuery,
        answers={200: AssetPage},
        summary="Assets, by code",
    ),
    Route(
        method="POST",
        path="/v1/assets",
        handler=create,
        scope=Scope.ADMIN,
        body=AssetNew,
        answers={201: AssetBody},
        summary="Make an asset known",
        writes=True,
    ),
    Route(
        method="GET",
        path="/v1/assets/{code}",
        handler=show,
        scope=Scope.READ,
        answers={200: AssetBody},
        summary="One asset",
    ),
)
