"""The simulated network as a client meets it: a real process, real HTTP, hostile bodies, pages."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.integration.jobcoin import API, OK, Client, NetworkProcess, client_of, running

SEND = f"{API}/transactions"
TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", re.ASCII)
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkProcess]:
    with running(tmp_path_factory.mktemp("jobcoin")) as network:
        yield network


@pytest.fixture
async def client(network: NetworkProcess) -> AsyncIterator[Client]:
    async with client_of(network) as client:
        yield client


async def test_an_instance_is_made_at_first_use_with_alice_and_bob(client: Client) -> None:
    api = "/deputize-green/api"
    created, sent = await client.listed(api)
    assert (created["toAddress"], created["amount"], "fromAddress" in created) == ("Alice", "50", False)
    assert (sent["fromAddress"], sent["toAddress"], sent["amount"]) == ("Alice", "Bob", "12.5")
    assert TIMESTAMP.fullmatch(created["timestamp"])
    assert (await client.balance("Alice", api), await client.balance("Bob", api)) == ("37.5", "12.5")


async def test_an_unused_address_is_never_404_and_an_empty_one_is(client: Client) -> None:
    assert await client.get(f"{API}/addresses/nobody-yet") == (200, '{"balance":"0","transactions":[]}')
    assert await client.get(f"{API}/addresses/nobody-yet/") == (200, '{"balance":"0","transactions":[]}')
    for path in (f"{API}/addresses/", f"{API}/addresses", f"{API}/other", "/a/b/c/d"):
        assert (await client.get(path))[0] == 404


WAYS = {
    "form": {"data": {"fromAddress": "Alice", "toAddress": "way", "amount": "0.10"}},
    "JSON": {"json": {"fromAddress": "Alice", "toAddress": "way", "amount": "0.10"}},
    "JSON number": {"data": '{"fromAddress":"Alice","toAddress":"way","amount":0.10}', "headers": JSON},
    "query": {"params": {"fromAddress": "Alice", "toAddress": "way", "amount": "0.10"}},
}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("way", WAYS)
async def test_every_way_of_sending_the_fields_moves_the_same_coins(client: Client, way: str, slash: str) -> None:
    before = len(await client.listed())
    assert await client.post(SEND + slash, **WAYS[way]) == OK
    (added,) = (await client.listed())[before:]
    assert (added["fromAddress"], added["toAddress"], added["amount"]) == ("Alice", "way", "0.10")


async def test_a_multipart_form_moves_coins_too(client: Client) -> None:
    with aiohttp.MultipartWriter("form-data") as form:
        for name, text in {"fromAddress": "Alice", "toAddress": "mültipart", "amount": "0.25"}.items():
            form.append(text).set_content_disposition("form-data", name=name)
    assert await client.post(SEND, data=form) == OK
    assert await client.balance("mültipart") == "0.25"


@pytest.mark.parametrize("number", ["1.3000000000000007", "0.1000000000000000055511151231257827", "1E-5", "12.50"])
async def test_a_json_number_never_becomes_a_float(client: Client, number: str) -> None:
    await client.post("/numbers/api/create", data={"address": "rich"})
    body = f'{{"fromAddress":"rich","toAddress":"numbered","amount":{number}}}'
    assert await client.post("/numbers/api/transactions", data=body, headers=JSON) == OK
    assert (await client.listed("/numbers/api"))[-1]["amount"] == ("0.00001" if "E" in number else number)


async def test_a_balance_is_canonical_and_an_amount_is_listed_as_it_was_sent(client: Client) -> None:
    assert await client.send("Alice", "canon", "1.500") == OK
    assert await client.send("Alice", "canon", ".5") == OK
    assert await client.send("canon", "elsewhere", "0.25000") == OK
    _, text = await client.get(f"{API}/addresses/canon")
    shown = json.loads(text)
    assert shown["balance"] == "1.75"
    assert [row["amount"] for row in shown["transactions"]] == ["1.500", ".5", "0.25000"]


async def test_more_than_there_is_is_refused(client: Client) -> None:
    before = await client.listed()
    assert await client.send("nobody", "Alice", "0.0000000001") == (422, {"error": "Insufficient Funds"})
    assert await client.listed() == before


@pytest.mark.parametrize("amount", ["0", "-1", "0.00"])
async def test_an_amount_must_be_over_zero(client: Client, amount: str) -> None:
    assert await client.send("Alice", "Bob", amount) == (400, {"error": "Amount must be over 0!"})


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "١٢", "1_0", "1" * 41, "1e1000000", "0x1", " 1", "1" * 10_000])
async def test_what_is_no_amount_is_named_by_its_field(client: Client, amount: str) -> None:
    status, body = await client.send("Alice", "Bob", amount)
    assert status == 400
    assert isinstance(body, dict)
    assert list(body["error"]) == ["amount"]  # pyright: ignore[reportUnknownArgumentType] parsed JSON


HOSTILE_BODIES: list[tuple[bytes, dict[str, str], int]] = [
    (b"", JSON, 400),
    (b"{", JSON, 400),
    (b"[]", JSON, 400),
    (b"null", JSON, 400),
    (b"\xff\xfe", JSON, 400),
    (b"\xef\xbb\xbf{}", JSON, 400),
    (b"[" * 15_000, JSON, 400),
    (b'{"fromAddress":"Alice","toAddress":"Bob","amount":NaN}', JSON, 400),
    (b'{"fromAddress":"Alice","toAddress":"Bob","amount":1e400}', JSON, 400),
    (b'{"fromAddress":"Alice","toAddress":"Bob","amount":' + b"9" * 5_000 + b"}", JSON, 400),
    (b'{"fromAddress":"Alice","toAddress":"Bob","amount":1,"amount":2}', JSON, 400),
    (b'{"fromAddress":"Alice","toAddress":"\\ud800","amount":"1"}', JSON, 400),
    (b'{"fromAddress":7,"toAddress":"Bob","amount":"1"}', JSON, 400),
    (b'{"fromAddress":"Alice","toAddress":"Bob","amount":["1"]}', JSON, 400),
    (b'{"fromAddress":"Alice","toAddress":"Bob","amount":null}', JSON, 400),
    (b'{"fromAddress":"Alice","toAddress":"Bob","amount":"1"}', {"Content-Type": "application/xml"}, 400),
    (b"fromAddress=Alice&toAddress=%ff&amount=1", FORM, 400),
    (b"fromAddress=Alice&toAddress=Bob&amount=1&amount=2", FORM, 400),
    (b"&".join(b"a%d=1" % n for n in range(50)), FORM, 400),
    (b"toAddress=Bob&amount=1", FORM, 400),
    (b"a=" + b"x" * 70_000, FORM, 413),
    (b"{" + b" " * 70_000, JSON, 413),
    (b"--b\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, 400),
    (b"x", {"Content-Type": "multipart/form-data"}, 400),
    (b"x" * 20_000, {"Content-Type": "multipart/form-data; boundary=b"}, 400),
    (b"not gzip at all", JSON | {"Content-Encoding": "gzip"}, 400),
    (gzip.compress(b"[" * 50_000_000), JSON | {"Content-Encoding": "gzip"}, 413),
]


@pytest.mark.parametrize(("body", "headers", "status"), HOSTILE_BODIES, ids=range(len(HOSTILE_BODIES)))
async def test_a_bad_body_is_a_clean_error_and_moves_nothing(
    client: Client, body: bytes, headers: dict[str, str], status: int
) -> None:
    before = await client.listed()
    answered, error = await client.post(SEND, data=body, headers=headers)
    assert answered == status
    assert isinstance(error, dict)
    assert list(error) == ["error"]  # pyright: ignore[reportUnknownArgumentType] parsed JSON
    assert await client.listed() == before


async def test_an_uploaded_file_in_place_of_the_amount_is_refused(client: Client) -> None:
    form = aiohttp.FormData({"fromAddress": "Alice", "toAddress": "Bob"})
    form.add_field("amount", b"1", filename="amount.txt", content_type="application/octet-stream")
    assert await client.post(SEND, data=form) == (400, {"error": {"amount": ["This field must be text."]}})


async def test_a_hundred_who_spend_the_same_coins_spend_them_once(client: Client) -> None:
    api = "/race/api"
    await client.get(f"{api}/transactions")
    answers = await asyncio.gather(*(client.send("Bob", f"winner-{n}", "1.25", api) for n in range(100)))
    assert [status for status, _ in answers].count(200) == 10
    assert answers.count((422, {"error": "Insufficient Funds"})) == 90
    assert await client.balance("Bob", api) == "0"
    times = [row["timestamp"] for row in await client.listed(api)]
    assert times == sorted(times)


async def test_any_string_is_an_address(client: Client) -> None:
    for name in ("50", "alice", "a b", "ü/ö?#&=+%", "<script>", "\u202eevil", "x" * 256, "..", "new\nline\x00"):
        assert await client.send("Alice", name, "0.001") == OK
        assert (await client.listed())[-1]["toAddress"] == name
    assert await client.balance("%C3%BC%2F%C3%B6%3F%23&=+%25") == "0.001"


async def test_coins_are_created_from_the_page_and_the_redirect_ends_in_200(client: Client) -> None:
    async with client.session.post("/pages/create", data={"address": "Minted"}) as response:
        assert (response.status, len(response.history), response.content_type) == (200, 1, "text/html")
        assert "Jobcoin Viewer for Pages" in await response.text()
    fields = {"fromAddress": "Minted", "toAddress": "<b>Bold</b>", "amount": "20"}
    async with client.session.post("/pages/send", data=fields) as response:
        page = await response.text()
    assert (response.status, "&lt;b&gt;Bold" in page, "<b>" in page) == (200, True, False)
    assert await client.balance("Minted", "/pages/api") == "30"
    assert "fromAddress" not in (await client.listed("/pages/api"))[2]


async def test_the_page_says_why_it_sent_nothing(client: Client) -> None:
    fields = {"fromAddress": "nobody", "toAddress": "Bob", "amount": "20"}
    async with client.session.post("/pages/send", data=fields) as response:
        assert (response.status, "Insufficient Funds" in await response.text()) == (422, True)
    async with client.session.post("/pages/create", data={}) as response:
        assert (response.status, "This field is required." in await response.text()) == (400, True)


async def test_pages_run_no_script_and_browsers_of_any_origin_may_use_the_api(client: Client) -> None:
    for path in ("/", "/puppy", "/puppy/", "/puppy/api", f"{API}/transactions", f"{API}/nothing", "/livez"):
        async with client.session.get(path) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "script-src" not in policy
    async with client.session.options(SEND) as response:
        assert (response.status, response.headers["Access-Control-Allow-Headers"]) == (204, "Content-Type")


async def test_the_root_says_hello_and_health_answers(client: Client) -> None:
    assert "Hello!" in (await client.get("/"))[1]
    assert (await client.get("/livez"))[0] == (await client.get("/readyz"))[0] == 200
    assert "jobcoin_commit_seconds" in (await client.get("/metrics"))[1]


async def test_another_method_is_not_allowed_and_a_reserved_name_is_no_instance(client: Client) -> None:
    async with client.session.delete(SEND) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD,POST")
    assert (await client.get("/metrics/api/transactions"))[0] == 404
    assert (await client.get("/a.b/api/transactions"))[0] == 404


async def test_a_reader_that_has_the_list_is_told_so(client: Client) -> None:
    await client.send("Alice", "tagged", "0.001")
    async with client.session.get(SEND) as response:
        tag = response.headers["ETag"]
    async with client.session.get(SEND, headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    await client.send("Alice", "tagged", "0.001")
    async with client.session.get(SEND, headers={"If-None-Match": tag}) as response:
        assert response.status == 200
