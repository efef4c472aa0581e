"""The network's pages. Anyone may write into addresses, so all text is escaped and no page may run a script."""

import base64
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from services.jobcoin_network.core.coins import coins_text
from services.jobcoin_network.core.instances import Instance
from services.jobcoin_network.core.transactions import InstanceName

ROWS_SHOWN_MAX = 1_000
SEND_FIELDS = {"fromAddress": "From Address", "toAddress": "To Address", "amount": "Amount"}
CREATE_FIELDS = {"address": "Address"}

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
form { display: inline-block; vertical-align: top; margin: 0 2rem 1rem 0 }
input, button { display: block; width: 16rem; margin: .4rem 0; padding: .4rem; font: inherit; box-sizing: border-box }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 2rem }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8886; overflow-wrap: anywhere }
[role=alert] { padding: .5rem 1rem; border-left: .3rem solid #c33 }
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def hello() -> str:
    """The root page."""
    return _page("Jobcoin", "<h1>Hello!</h1><p>A simulated Jobcoin network. Each path is a network of its own.</p>")


def viewer(instance: Instance, error: str | Mapping[str, list[str]] | None = None) -> str:
    """The page of an instance: both forms, the addresses with their balances, the latest transactions first."""
    name = instance.name
    title = f"Jobcoin Viewer for {name.replace('-', ' ').title()}"
    parts = (
        f'<h1>{title}</h1><p><a href="/{name}/api">API docs</a></p>',
        _alert(error),
        _form(f"/{name}/send", "Send Jobcoins", "Send Coins", SEND_FIELDS),
        _form(f"/{name}/create", "Create 50 New Jobcoins", "Create 50 Coins", CREATE_FIELDS),
        _addresses(instance),
        _transactions(instance),
    )
    return _page(title, "".join(parts))


def documentation(name: InstanceName) -> str:
    """How to use the API of an instance."""
    base = f"/{name}/api"
    return _page(
        "Jobcoin API",
        f"""<h1>Jobcoin API</h1>
<h2>GET {base}/addresses/{{address}}</h2>
<p>The balance and the transactions of an address. This never returns 404: an unused address has a balance of 0 and an
empty list of transactions. Numbers are returned as strings to preserve precision. Some transactions lack a
<code>fromAddress</code>: those are ones where Jobcoins were created from the UI.</p>
<h2>GET {base}/transactions</h2>
<p>All transactions, oldest first.</p>
<h2>POST {base}/transactions</h2>
<p>Sends <code>amount</code> from <code>fromAddress</code> to <code>toAddress</code>, given as a form or as JSON.
200 <code>{{"status":"OK"}}</code>, or 422 <code>{{"error":"Insufficient Funds"}}</code>,
or 400 with an error that is a text or messages by field.</p>
<p><a href="/{name}">Viewer</a></p>""",
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def _alert(error: str | Mapping[str, list[str]] | None) -> str:
    if error is None:
        return ""
    sentences = [error] if isinstance(error, str) else [f"{name}: {' '.join(texts)}" for name, texts in error.items()]
    return f'<p role="alert">{"<br>".join(map(escape, sentences))}</p>'


def _form(action: str, heading: str, button: str, fields: Mapping[str, str]) -> str:
    inputs = "".join(
        f'<input type="text" id="{name}" name="{name}" placeholder="{label}" aria-label="{label}">'
        for name, label in fields.items()
    )
    submit = f'<button type="submit">{button}</button>'
    return f'<form action="{action}" method="POST"><h2>{heading}</h2>{inputs}{submit}</form>'


def _addresses(instance: Instance) -> str:
    shown = itertools.islice(instance.balances(), ROWS_SHOWN_MAX)
    rows = ((address, coins_text(units)) for address, units in shown)
    return _table(("Address", "Balance"), rows, f"{instance.addresses()} Addresses")


def _transactions(instance: Instance) -> str:
    count = len(instance.rows)
    latest = range(count - 1, max(count - ROWS_SHOWN_MAX, 0) - 1, -1)
    columns = ("Timestamp", "From", "To", "Amount")
    rows = (_cells(instance.rows.row(position)) for position in latest)
    return "<h2>Transactions</h2>" + _table(columns, rows, f"{count} Transactions")


def _cells(row: bytes) -> tuple[str, ...]:
    shown: dict[str, str] = json.loads(row)
    return shown["timestamp"], shown.get("fromAddress", "(new)"), shown["toAddress"], shown["amount"]


def _table(columns: Sequence[str], rows: Iterable[Iterable[str]], footer: str) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    # <bdi> keeps an address with right-to-left characters from reordering its neighbours.
    body = "".join("<tr>" + "".join(f"<td><bdi>{escape(cell)}</bdi></td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        f'<tfoot><tr><th colspan="{len(columns)}">{footer}</th></tr></tfoot></table>'
    )
