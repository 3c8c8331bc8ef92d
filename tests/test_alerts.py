"""Alerts, dashboard and exported numbers, looked at by Prometheus's own tool."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from fusion import metrics
from fusion.serving.health import Health
from fusion.status import ServiceStatus
from tests.test_metrics import MONITORING, queries

pytestmark = pytest.mark.promtool

PROMTOOL = os.environ.get("PROMTOOL", "promtool")


def promtool(*arguments: str, given: str = "") -> str:
    """Run it beside the files that it looks at; what it says."""
    done = subprocess.run(
        [PROMTOOL, *arguments],
        cwd=MONITORING,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_each_alert_fires_when_it_should_and_not_otherwise() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    tests = (MONITORING / "alerts.test.yml").read_text()
    assert all(f"alertname: {rule['alert']}" in tests for rule in rules)


def test_rules_and_settings_are_valid() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_every_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries())
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", str(path))


def test_what_is_exported_is_in_the_form_of_prometheus() -> None:
    metrics.TURNS.inc()
    metrics.called("transcription", 0.1, 1.0)
    answer = Health(ServiceStatus()).answer("/metrics")
    assert answer is not None
    promtool("check", "metrics", given=answer.text)
