"""What the service counts, in the format of Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        of: dict[str, Any] = {"registry": self._registry, "namespace": "recbole_ssm"}
        self.requests = Counter("requests", "Answers by route and status", ["route", "status"], **of)
        self.seconds = Histogram(
            "request_seconds", "Seconds from a request to its answer", ["route"], buckets=_SECONDS, **of
        )
        self.batch = Histogram(
            "batch_requests", "Requests that are computed together", buckets=(1, 2, 4, 8, 16, 32, 64), **of
        )
        self.model = Histogram("model_seconds", "Seconds in which the model computes a batch", buckets=_SECONDS, **of)
        self.unknown = Counter("unknown_items", "Items in requests that the model does not know", **of)
        self.popular = Counter("popular_answers", "Answers with popular items, since nothing else is known", **of)
        self.swaps = Counter("checkpoint_swaps", "Checkpoints that were put in place of another", ["result"], **of)
        self.waiting = Gauge("waiting_requests", "Requests that wait for the model", **of)
        self.sessions = Gauge("sessions", "Sessions that are kept", **of)
        self.checkpoint = Gauge("checkpoint", "1 for the checkpoint in use, by its fingerprint", ["fingerprint"], **of)

    def use(self, fingerprint: str) -> None:
        """Name the checkpoint in use."""
        self.checkpoint.clear()
        self.checkpoint.labels(fingerprint).set(1)

    def text(self) -> bytes:
        """All counters, as Prometheus reads them."""
        return generate_latest(self._registry)
