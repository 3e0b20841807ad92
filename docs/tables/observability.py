"""The metrics of the gateway, from its catalogue."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from modeltoll.client.sidecar_metrics import SidecarMetrics
from modeltoll.gateway.observability.metric_catalogue import METRICS, PREFIX
from tables.form import RESULTS, table

__all__ = ["every_setting", "metrics", "proxy_metrics"]


def metrics() -> str:
    """Every metric with its kind and its labels."""
    rows = [
        (f"`{PREFIX}{metric.name}`", metric.kind, " ".join(f"`{label}`" for label in metric.labels), metric.text)
        for metric in METRICS.values()
    ]
    return table(("metric", "kind", "labels", "meaning"), rows, words=4)


def proxy_metrics() -> str:
    """Every metric of the local proxy."""
    families = [
        family
        for family in text_string_to_metric_families(SidecarMetrics().render().decode())
        if not family.name.endswith("_created")
    ]
    return table(
        ("metric", "kind", "meaning"),
        [(f"`{family.name}_total`", family.type, family.documentation) for family in families],
        words=3,
    )


def every_setting() -> str:
    """The file that holds an example of every setting."""
    return f"```yaml\n{(RESULTS.parent / 'docs' / 'reference' / 'every-setting.yaml').read_text()}```\n"
