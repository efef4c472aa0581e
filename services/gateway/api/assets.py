"""/v1/assets."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from services.gateway.api.fields import AssetName
from services.gateway.api.writes import answer_write, begin_write
from services.gateway.http.paging import page, position_of
from services.gateway.http.queries import ListQuery
from services.gateway.http.request import Body, RequestContext
from services.gateway.http.response import HttpResponse, json_response, list_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.assets import AssetFacts, list_assets
from services.gateway.usecases.assets import asset, create_asset
from shared.domain.api_keys import Scope
from shared.domain.money import SCALE_MAX

ROUTES: Final = RouteTable()


def whole(number: object) -> object:
    """An int for a float without a fraction, such as 2.0, which in JSON is the same number. Anything else as it is."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


class AssetNew(Body):
    """One unit of the asset is 10^scale minor units."""

    code: AssetName
    scale: Annotated[int, Field(ge=0, le=SCALE_MAX), BeforeValidator(whole)]
    name: Annotated[str, Field(min_length=1, max_length=128)]


class AssetBody(TypedDict):
    """An asset."""

    code: str
    scale: int
    name: str
    links: dict[str, str]


AssetPage = TypedDict("AssetPage", {"data": list[AssetBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`


@ROUTES.add("POST", "/v1/assets", scopes=(Scope.ADMIN,), body=AssetNew, answers={201: AssetBody})
async def create(context: RequestContext) -> HttpResponse:
    """Make an asset known."""
    body = await context.body(AssetNew)
    facts = AssetFacts(body.code, body.scale, body.name)
    submission = await create_asset(begin_write(context, body.code, body.scale, body.name), facts)

    async def show_asset() -> AssetBody:
        return _shown(facts)

    return await answer_write(submission, 201, show_asset)


@ROUTES.add("GET", "/v1/assets/{code}", scopes=(Scope.READ,), answers={200: AssetBody})
async def show(context: RequestContext) -> HttpResponse:
    """One asset."""
    return json_response(200, _shown(await asset(context.state, context.path["code"])))


@ROUTES.add("GET", "/v1/assets", scopes=(Scope.READ,), query=ListQuery, answers={200: AssetPage})
async def show_all(context: RequestContext) -> HttpResponse:
    """Assets, by code."""
    query = context.query(ListQuery)
    position = context.state.instants.position  # before the rows are read: what comes after it may still be missing
    [after] = position_of(context, query, [""])
    found = await list_assets(context.state.database, after=str(after), limit=query.limit + 1)
    rows, following = page(context, query, found, lambda row: [row.code])
    return list_response([_shown(row) for row in rows], following, position)


def _shown(facts: AssetFacts) -> AssetBody:
    return {"code": facts.code, "scale": facts.scale, "name": facts.name, "links": {"self": f"/v1/assets/{facts.code}"}}
