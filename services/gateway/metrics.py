"""What the gateway counts, in a registry of its own."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

DURATION_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RouteMetrics:
    """The counters of one route, looked up once."""

    def __init__(self, requests: Counter, durations: Histogram, method: str, path: str) -> None:
        self._requests = requests
        self._labels = (method, path)
        self._by_status: dict[int, Counter] = {}
        self._duration = durations.labels(method, path)

    def note(self, status: int, duration_s: float) -> None:
        """One request was answered."""
        child = self._by_status.get(status)
        if child is None:
            child = self._by_status[status] = self._requests.labels(*self._labels, str(status))
        child.inc()
        self._duration.observe(duration_s)


class Metrics:
    """One set for each gateway."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "tellerline_gateway_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self._durations = Histogram(
            "tellerline_gateway_request_duration_seconds",
            "Time from the request's head to the answer",
            ["method", "route"],
            registry=registry,
            buckets=DURATION_BUCKETS_S,
        )
        self.problems = Counter("tellerline_gateway_problems", "Problems answered", ["code"], registry=registry)
        self.outcomes = Counter(
            "tellerline_gateway_outcomes",
            "Commands decided, as answered",
            ["kind", "status"],
            registry=registry,
        )
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
        return RouteMetrics(self._requests, self._durations, method, path)

    def watch(
        self, *, envelopes: Callable[[], int], unmatched: Callable[[], int], in_flight: Callable[[], int]
    ) -> None:
        """Shows what the ledger client counts by itself."""
        self._registry.register(_ClientCounts(envelopes, unmatched, in_flight))

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _ClientCounts(Collector):
    def __init__(
        self, envelopes: Callable[[], int], unmatched: Callable[[], int], in_flight: Callable[[], int]
    ) -> None:
        self._envelopes = envelopes
        self._unmatched = unmatched
        self._in_flight = in_flight

    def collect(self) -> Iterator[Metric]:
        """The client's counts as they are now."""
        yield CounterMetricFamily("tellerline_gateway_envelopes", "Envelopes confirmed", value=self._envelopes())
        yield CounterMetricFamily(
            "tellerline_gateway_replies_unmatched", "Outcomes nobody waited for", value=self._unmatched()
        )
        yield GaugeMetricFamily("tellerline_gateway_commands_in_flight", "Commands waited for", value=self._in_flight())
