"""The alert rules for Prometheus. Their syntax and effect are checked by scripts/check-alerts.sh."""

import importlib
import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.metrics import Metrics

RULES = (Path(__file__).parents[2] / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8").split("- alert: ")[1:]
OURS = re.compile(r"\b(?:ledger|tellerline|mixer|jobcoin|poller|distributor)_[a-z_]+", re.ASCII)
SERVICES = ("ledger_worker.metrics", "deposit_poller.__main__", "distributor.__main__")


def metric_names() -> set[str]:
    """Names of the product's metrics, as /metrics has them."""
    for service in SERVICES:
        importlib.import_module(f"services.{service}")
    text = generate_latest().decode() + Metrics().text().decode()
    families = text_string_to_metric_families(text)
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.split()[0])
def test_a_rule_asks_for_metrics_that_there_are_and_says_what_to_do(rule: str) -> None:
    asked = set(OURS.findall(rule.split("labels:", maxsplit=1)[0]))
    assert asked
    assert asked <= metric_names()
    assert "summary:" in rule
    assert "description:" in rule
