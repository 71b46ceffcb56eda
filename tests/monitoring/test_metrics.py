"""Metrics, scraped from a daemon at work, read by Prometheus's own parser, promtool, and Prometheus."""

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.counters import DISCARDED, DROPPED
from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, Subscriber, free_port, wait_until
from tests.daemon_process import PROJECT, Daemon, configuration

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
PIPELINE = {"source": {"type": "mqtt", "topic": "lab/images"}, "model": "digits"}
SECTIONS = {"models": {"digits": {"path": str(DIGITS)}}, "pipelines": {"lab": PIPELINE}}
DASHBOARD = PROJECT / "deploy" / "grafana" / "edge-agent.json"

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def parsed(text: str) -> Samples:
    """Values by name and labels."""
    samples: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    found = [value for key, value in samples[f"edge_agent_{name}"].items() if labels.items() <= dict(key).items()]
    assert found, name
    return sum(found)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def daemon(broker: Mosquitto, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that has answered nine inputs and refused one."""
    config = configuration(broker, "scraped", **SECTIONS, metrics={"listen": f"127.0.0.1:{port}"})
    with Daemon(tmp_path_factory.mktemp("daemon"), config) as running, Subscriber(broker.port, "edge/#") as client:
        for number in range(10):
            client.publish("lab/images", b"no picture" if number == 5 else IMAGE)
        client.wait_for(lambda message: message.topic == "edge/scraped/lab/result", 9)
        client.wait_for(lambda message: message.topic == "edge/scraped/lab/error")
        wait_until(lambda: total(parsed(read(port)), "results_acknowledged_total") == 9, 20, "all is acknowledged")
        yield running


@pytest.fixture(scope="module")
def text(daemon: Daemon, port: int) -> str:
    """One scrape."""
    return read(port)


def test_a_scrape_tells_the_counters_of_each_pipeline_and_they_balance(text: str) -> None:
    samples = parsed(text)
    assert total(samples, "inputs_captured_total", pipeline="lab") == 10
    assert total(samples, "inputs_inferred_total", pipeline="lab") == 9
    assert total(samples, "inputs_dropped_total", pipeline="lab", reason="invalid") == 1
    assert total(samples, "inputs_captured_total") == sum(
        total(samples, name) for name in ("inputs_inferred_total", "inputs_in_progress", "inputs_dropped_total")
    )
    assert total(samples, "results_produced_total") == sum(
        total(samples, name) for name in ("results_acknowledged_total", "results_queued", "results_discarded_total")
    )


def test_every_reason_is_there_before_it_is_met(text: str) -> None:
    samples = parsed(text)
    for name, reasons in ("inputs_dropped_total", DROPPED), ("results_discarded_total", DISCARDED):
        assert {dict(key)["reason"] for key in samples[f"edge_agent_{name}"]} == set(reasons)


def test_the_time_of_each_stage_is_counted_once_for_each_input_that_was_answered(text: str) -> None:
    samples = parsed(text)
    for stage in ("queue", "preprocess", "inference", "postprocess"):
        assert total(samples, "stage_duration_seconds_count", pipeline="lab", stage=stage) == 9
        assert 0 < total(samples, "stage_duration_seconds_sum", pipeline="lab", stage=stage) < 60


def test_model_accelerator_broker_and_process_are_told(text: str) -> None:
    samples = parsed(text)
    assert total(samples, "model_info", model="digits", task="classification") == 1
    assert total(samples, "accelerator_info", model="digits", asked="cpu", in_use="cpu") == 1
    assert total(samples, "info", device_id="scraped") == 1
    assert total(samples, "broker_connected") == 1
    assert total(samples, "outbox_disk_results") == total(samples, "outbox_failed") == 0
    assert samples["process_resident_memory_bytes"][()] > 10_000_000


def test_the_dashboard_asks_only_for_metrics_that_there_are(text: str) -> None:
    known = set(parsed(text)) | {"edge_agent_temperature_celsius"}  # not every machine has a sensor
    document = json.loads(DASHBOARD.read_text())
    asked = set(re.findall(r"\b(?:edge_agent|process)_\w+", json.dumps([document["panels"], document["templating"]])))
    assert len(asked) > 10
    assert asked <= known


def test_the_documentation_names_the_metrics_that_there_are(text: str) -> None:
    named = set(re.findall(r"\| `(edge_agent_\w+)", (PROJECT / "docs" / "monitoring.md").read_text()))
    told = {name for name in parsed(text) if name.startswith("edge_agent_")}
    sometimes = {"edge_agent_temperature_celsius", "edge_agent_throttled", "edge_agent_battery_charge_ratio"}
    sometimes |= {f"edge_agent_update_{what}" for what in ("info", "check_info", "check_failed")}
    assert named - sometimes == {re.sub("_(bucket|count|sum)$", "", name) for name in told} - sometimes


def test_promtool_finds_nothing_to_say(text: str) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool: apt-get install prometheus")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.page
def test_a_real_prometheus_scrapes_the_daemon_and_answers_the_dashboard(
    daemon: Daemon, port: int, tmp_path: Path
) -> None:
    if (prometheus := shutil.which("prometheus")) is None:
        pytest.skip("no prometheus: apt-get install prometheus")
    own, file = free_port(), tmp_path / "prometheus.yml"
    job = {"job_name": "edge-agent", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    file.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    command = [prometheus, f"--config.file={file}", f"--storage.tsdb.path={tmp_path}"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(own, "up") == ["1"], 60, "Prometheus has scraped the daemon")
        wait_until(lambda: answers(own, "count_over_time(up[1m]) > 2") != [], 30, "and has done so again")
        assert answers(own, "edge_agent_inputs_inferred_total") == ["9"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            for target in panel["targets"]:
                filled = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
                answers(own, filled.replace("$pipeline", ".*"))
    finally:
        server.terminate()
        server.wait(20)


def answers(port: int, query: str) -> list[str]:
    """Values that Prometheus has for a query, which it must understand; none while it can't be reached."""
    address = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            document: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return []
        raise
    except OSError:
        return []
    return [str(one["value"][1]) for one in document["data"]["result"]]


def test_metrics_come_and_go_with_the_configuration(mosquitto: Mosquitto, tmp_path: Path) -> None:
    port = free_port()
    address = {"listen": f"127.0.0.1:{port}"}
    with Daemon(tmp_path, configuration(mosquitto, "changing", **SECTIONS)) as daemon:
        daemon.configure(configuration(mosquitto, "changing", **SECTIONS, metrics=address))
        daemon.reload()
        assert total(parsed(read(port)), "info", device_id="changing") == 1
        daemon.configure(configuration(mosquitto, "changing", **SECTIONS))
        daemon.reload()
        with pytest.raises(OSError, match="refused"):
            read(port)


def test_an_address_that_is_taken_is_named_in_one_line(mosquitto: Mosquitto, tmp_path: Path) -> None:
    config = configuration(mosquitto, "second", **SECTIONS, metrics={"listen": f"127.0.0.1:{mosquitto.port}"})
    daemon = Daemon(tmp_path, config).start(ready=False)
    assert daemon.wait().code == 1
    *_, last = daemon.log().splitlines()
    problem = f"metrics.listen: 127.0.0.1:{mosquitto.port} can't be listened at: Address already in use"
    assert last == f"{problem}: choose another address"


@pytest.mark.parametrize("package", ["prometheus_client", "waitress"])
def test_what_is_off_is_not_imported_and_what_is_missing_is_named(package: str) -> None:
    program = (
        "import sys\n"
        "import edge_agent.daemon.agent\n"
        "web = {'prometheus_client', 'waitress', 'edge_agent.monitoring.web', 'edge_agent.monitoring.page'}\n"
        "assert not web & set(sys.modules)\n"
        f"sys.modules['{package}'] = None\n"
        "from edge_agent.errors import MissingExtraError\n"
        "try:\n"
        "    import edge_agent.monitoring.metrics\n"
        "    from edge_agent.monitoring.web import Web\n"
        "    Web(None, '127.0.0.1:9', 'metrics.listen', 'metrics')\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.startswith("serving metrics needs a package that is not installed: ")
    assert re.search(r" install 'prometheus-client>=[0-9.]+' 'waitress>=[0-9.]+'$", done.stdout)
