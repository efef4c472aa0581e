"""The OpenAPI document, tried by Schemathesis: examples, edge cases, random requests and sequences, every answer."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from tests.integration.conftest import Served
from tests.integration.gateway import ADMIN_KEY

Json = dict[str, object]

SECONDS_MAX = 35
CASES_MIN = 200
# Ordered mixes wait for the deposit poller, which does not run here; tests/integration/test_mixer.py orders them.
LEFT_OUT = ("--exclude-operation-id", "post_v1_mixes")
# Codes and messages of a 400 to a request that is valid by its schema: what no schema can say.
UNSAID = {
    "amount_scale": "",
    "amount_not_positive": "",
    "invalid_request": (
        *("cursor: it was not made", "it is no position", "the instant is out of range", "lies in the future"),
        *("a double does not hold", "the character NUL", "is not UTF-8", "metadata has at most", "too many values"),
        *("wait: Input should be a valid integer", "limit: Input should be a valid integer"),  # 1.0 in a query
    ),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One request that was valid by the schema, and its answer."""

    request: str
    status: int
    body: bytes


def events(report: Path, kind: str) -> Iterator[Json]:
    for line in report.read_text(encoding="utf-8").splitlines():
        event = cast("Mapping[str, Json]", json.loads(line))
        if kind in event:
            yield event[kind]


def valid_cases(report: Path) -> Iterator[Case]:
    for scenario in events(report, "ScenarioFinished"):
        recorder = cast("Mapping[str, Mapping[str, Json]]", scenario["recorder"])
        for identity, interaction in recorder.get("interactions", {}).items():
            case = cast("Json", recorder["cases"][identity]["value"])
            generation = cast("Json", cast("Json", case.get("meta") or {}).get("generation") or {})
            response = cast("Json", interaction.get("response") or {})
            if generation.get("mode") == "positive" and response:
                content = cast("Mapping[str, str]", response.get("content") or {"$base64": ""})
                body = base64.b64decode(content["$base64"])
                yield Case(f"{case['method']} {case['path']}", int(str(response["status_code"])), body)


def is_unsaid(case: Case) -> bool:
    """Whether a schema could not have said why this request was refused."""
    problem = cast("Mapping[str, str]", json.loads(case.body))
    reasons = UNSAID.get(problem["code"])
    return reasons is not None and any(reason in problem["detail"] for reason in reasons or ("",))


@pytest.mark.timeout(180)
def test_every_answer_is_what_the_document_says(served: Served, tmp_path: Path) -> None:
    report = tmp_path / "report.ndjson"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{served.client.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {ADMIN_KEY}", "--seed", "1", "--warnings", "off"),
        *("--max-time", str(SECONDS_MAX), "--max-examples", "20", "--continue-on-failure", "--no-shrink"),
        # Longer than the longest wait that a request may ask for.
        *("--request-timeout", "40"),
        # It takes every 422 for a fault of the document; the rest of what it does is done below.
        *("--exclude-checks", "positive_data_acceptance", *LEFT_OUT, "--report-ndjson-path", str(report)),
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-2_000:]
    cases = list(valid_cases(report))
    assert len(cases) > CASES_MIN
    refused = [case for case in cases if case.status == 400 and not is_unsaid(case)]
    assert not refused, refused
