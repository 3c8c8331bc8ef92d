"""The numbers of all processes, on whichever port is asked; dashboard and alerts on them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from fusion import metrics

ROOT = Path(__file__).resolve().parent.parent
MONITORING = ROOT / "docker" / "monitoring"

COUNT = """
import os, signal
from fusion import metrics
metrics.serve_model("piper", "toy")
metrics.TURNS.inc()
metrics.TURN_SECONDS.labels("first_sound").observe(0.4)
metrics.SESSIONS.set({sessions})
metrics.called("synthesis", 1.0, 4.0)
os.kill(os.getpid(), signal.SIGKILL)
"""

ASK = """
from fusion.serving.health import Health
from fusion.status import ServiceStatus
print(Health(ServiceStatus()).answer("/metrics").text)
"""


def in_process(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, metrics.FOLDER: str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_killed_processes_counted_stays_counted(tmp_path: Path) -> None:
    for sessions in (2, 1):
        assert in_process(COUNT.format(sessions=sessions), tmp_path).returncode == -signal.SIGKILL
    found = samples(in_process(ASK, tmp_path).stdout)
    assert found["whisperfusion_turns_total", ()] == 2
    assert found["whisperfusion_turn_seconds_count", ("first_sound",)] == 2
    assert found["whisperfusion_real_time_factor_sum", ("piper", "toy", "synthesis")] == 0.5
    assert found["whisperfusion_sessions", ()] == 1  # the latest says how many there are


def exported() -> set[str]:
    """Every name under which a number of ours can be asked for."""
    names = {"whisperfusion_ready", "whisperfusion_restarts_total"}
    for family in metrics.REGISTRY.collect():
        if family.type == "histogram":
            names |= {f"{family.name}{end}" for end in ("_bucket", "_count", "_sum")}
        else:
            names.add(family.name + ("_total" if family.type == "counter" else ""))
    return names


def asked_for(text: str) -> set[str]:
    return set(re.findall(r"\bwhisperfusion_\w+", text))


def test_the_dashboard_shows_numbers_that_there_are() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 10
    asked = asked_for(" ".join(queries))
    assert asked <= exported()
    unseen = {re.sub("_(bucket|count|sum)$", "", name) for name in exported() - asked}
    assert not {name for name in unseen if not any(each.startswith(name) for each in asked)}


def test_the_alerts_are_on_numbers_that_there_are() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert asked_for(rule["expr"]) and asked_for(rule["expr"]) <= exported(), rule["alert"]
        assert rule["annotations"]["summary"]


def queries() -> list[str]:
    """What the dashboard and the alerts ask for."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    return asked + [rule["expr"] for rule in rules]


def test_dashboard_and_alerts_name_labels_that_there_are() -> None:
    labels = {"whisperfusion_restarts": {"service"}, "whisperfusion_ready": set()}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            # The name without its ending, and the names of its labels; public nowhere.
            labels[metric._name] = set(metric._labelnames)
    for query in queries():
        known = {"le"}
        for name in asked_for(query):
            known |= labels[re.sub("_(total|bucket|count|sum)$", "", name)]
        named = set(re.findall(r"(\w+)(?:!?=|!?=~)\"", query))
        for listed in re.findall(r"\bby\s*\(([^)]*)\)", query):
            named |= {each.strip() for each in listed.split(",")}
        assert named <= known, query


@pytest.mark.parametrize("name", ["prometheus.yml", "grafana-source.yml", "grafana-dashboards.yml"])
def test_what_the_monitors_read_is_yaml(name: str) -> None:
    assert yaml.safe_load((MONITORING / name).read_text())
