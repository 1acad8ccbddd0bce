"""The text that Prometheus scrapes, of this process or of several processes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class MetricsText(NamedTuple):
    """The metrics, and the type of their content."""

    text: bytes
    content_type: str


def metrics_text() -> MetricsText:
    """Return the metrics of this process. In a thread it waits a moment for the depths of queues."""
    return MetricsText(generate_latest(), CONTENT_TYPE_LATEST)


def joined(texts: Mapping[str, bytes]) -> MetricsText:
    """Return the metrics of several processes, with their names as the label ``process``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Joined(texts))
    return MetricsText(generate_latest(registry), CONTENT_TYPE_LATEST)


class _Joined(Collector):
    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self._families: dict[str, Metric] = {}
        for process, text in texts.items():
            for family in text_string_to_metric_families(text.decode()):
                self._add(process, family)

    def _add(self, process: str, family: Metric) -> None:
        own = self._families.get(family.name)
        if own is None:
            own = Metric(family.name, family.documentation, family.type, family.unit)
            self._families[family.name] = own
        for sample in family.samples:
            own.samples.append(sample._replace(labels={**sample.labels, "process": process}))

    def collect(self) -> list[Metric]:
        return list(self._families.values())
