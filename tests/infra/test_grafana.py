"""Prometheus scrapes the ports that Ray's nodes have, and the dashboard asks for metrics that exist."""

import json
import re

import pytest
from support.infra import INFRA, documents

from cluster.jobs import metrics

DASHBOARD = json.loads((INFRA / "grafana" / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [variable["query"] for variable in DASHBOARD["templating"]["list"]]


def asked_for(query: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", query))


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_metrics_that_are_exported(query):
    ours = {name for name in asked_for(query) if name.startswith(metrics.PREFIX)}
    assert asked_for(query) and ours <= set(metrics.exported())
    assert asked_for(query) - ours <= {"ray_node_gpus_utilization"}, "a metric of Ray's own that no test has seen"
    assert query.count("(") == query.count(")") and query.count("{") == query.count("}")


def test_every_metric_is_on_the_dashboard():
    assert set(metrics.exported()) <= {name for query in QUERIES for name in asked_for(query)}


def test_counters_are_shown_as_rates_and_gauges_are_not():
    for query in QUERIES[: len(DASHBOARD["panels"])]:
        for name in asked_for(query) & set(metrics.exported()):
            assert ("rate(" in query) == name.endswith("_total"), query


def test_panels_do_not_overlap():
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_scrapes_every_ray_service_of_compose_and_the_dashboard_its_source():
    (compose,), (scraped,) = documents("compose/compose.yaml"), documents("grafana/prometheus.yaml")
    (found,) = scraped["scrape_configs"][0]["dns_sd_configs"]
    ray = {name for name, one in compose["services"].items() if "ray start" in str(one.get("command"))}
    assert set(found["names"]) == ray
    for name in ray:
        assert f"--metrics-export-port={found['port']}" in compose["services"][name]["command"]
    (sources,) = documents("grafana/datasource.yaml")
    assert {p["datasource"]["uid"] for p in DASHBOARD["panels"]} == {sources["datasources"][0]["uid"]}
