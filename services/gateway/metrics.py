"""What the gateway counts, in a registry of its own."""

from collections import Counter as Counts
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from shared.ledger_client.client import LedgerClient
from shared.runtime.logs import LINES_LOST

DURATION_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RouteMetrics:
    """The counts of one route: answers by HTTP status, and by bucket of their duration, not cumulative."""

    def __init__(self, method: str, path: str) -> None:
        self.labels = (method, path)
        self.by_status: dict[int, int] = {}
        self.duration_s = 0.0
        self.by_duration = [0] * (len(DURATION_BUCKETS_S) + 1)


class Metrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(LINES_LOST)
        self._routes: list[RouteMetrics] = []
        # (kind, `posted` or the code of the rejection) → number of commands. `submit` counts here.
        self.outcomes: Counts[tuple[str, str]] = Counts()
        registry.register(_RequestCounts(self._routes, self.outcomes))
        self.problems = Counter("tellerline_gateway_problems", "Problems answered", ["code"], registry=registry)
        self.replays = Counter("tellerline_gateway_replays", "First outcomes given again", registry=registry)
        self.undecided = Counter("tellerline_gateway_undecided", "Writes answered 202", registry=registry)
        self.unknown = Counter("tellerline_gateway_unknown", "Writes answered 504", registry=registry)
        self.resolved = Counter(
            "tellerline_gateway_resolved",
            "Outcomes found in the journal because no reply came in time",
            registry=registry,
        )
        self.requests_in_flight = Gauge(
            "tellerline_gateway_requests_in_flight", "Requests being answered", registry=registry
        )

    def of_route(self, method: str, path: str) -> RouteMetrics:
        """The counters of a route; `path` is its template."""
        self._routes.append(RouteMetrics(method, path))
        return self._routes[-1]

    def watch(self, client: LedgerClient) -> None:
        """Adds the counts that the ledger client keeps itself."""
        self._registry.register(_ClientCollector(client))

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _RequestCounts(Collector):
    def __init__(self, routes: list[RouteMetrics], outcomes: Counts[tuple[str, str]]) -> None:
        self._routes = routes
        self._outcomes = outcomes

    def collect(self) -> Iterator[Metric]:
        """The counts as they are now."""
        requests = CounterMetricFamily(
            "tellerline_gateway_requests", "Requests answered", labels=["method", "route", "status"]
        )
        durations = HistogramMetricFamily(
            "tellerline_gateway_request_duration_seconds",
            "Time from the request's head to the answer",
            labels=["method", "route"],
        )
        bounds = [*map(str, DURATION_BUCKETS_S), "+Inf"]
        for route in self._routes:
            for status, count in sorted(route.by_status.items()):
                requests.add_metric([*route.labels, str(status)], count)
            buckets = list(zip(bounds, accumulate(route.by_duration), strict=True))
            durations.add_metric(route.labels, buckets, route.duration_s)
        outcomes = CounterMetricFamily(
            "tellerline_gateway_outcomes", "Commands decided, as answered", labels=["kind", "status"]
        )
        for labels, count in sorted(self._outcomes.items()):
            outcomes.add_metric(labels, count)
        yield from (requests, durations, outcomes)


class _ClientCollector(Collector):
    def __init__(self, client: LedgerClient) -> None:
        self._client = client

    def collect(self) -> Iterator[Metric]:
        """The client's counts as they are now."""
        client = self._client
        yield CounterMetricFamily(
            "tellerline_gateway_envelopes", "Envelopes confirmed", value=client.envelopes_confirmed
        )
        yield CounterMetricFamily(
            "tellerline_gateway_outcomes_unmatched", "Outcomes nobody waited for", value=client.outcomes_unmatched
        )
        yield GaugeMetricFamily(
            "tellerline_gateway_commands_pending", "Commands unsent or waited for", value=client.commands_pending
        )
