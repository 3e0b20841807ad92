"""What is deployed: linted, rendered and parsed by the tools and types of those who will read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import compose_spec
import pytest
import yaml

from modeltoll.gateway.settings.load import load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
SECRETS = {"MODELTOLL_ADMIN_TOKEN": "t" * 32, "MODELTOLL_SECRETS": json.dumps(["5" * 64])}


@pytest.fixture
def secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


# The image


def dockerfile():
    text = (DEPLOY / "Dockerfile").read_text()
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [line.split(None, 1) for line in joined.splitlines() if line.strip()]


def test_hadolint_finds_nothing_in_the_dockerfile():
    program = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([program, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


def test_the_image_is_made_in_two_stages_and_runs_as_nobody_in_particular():
    words = dockerfile()
    last = max(number for number, (word, _) in enumerate(words) if word == "FROM")
    assert sum(word == "FROM" for word, _ in words) == 2
    final = words[last:]
    assert ("USER", "10001:10001") in [tuple(line) for line in final]
    assert not [rest for word, rest in final if word == "RUN" and ("apt-get" in rest or "pip install" in rest)]
    assert [rest for word, rest in final if word == "ENTRYPOINT"] == ['["modeltoll"]']


def test_everything_that_the_build_needs_is_sent_to_it_and_there():
    wanted = [
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "src"} == set(wanted)
    assert all((DEPLOY.parent / name).exists() for name in wanted)


# Compose


def test_the_compose_file_is_of_the_specification():
    text = (DEPLOY / "compose.yaml").read_text().replace("host-gateway", "192.0.2.1")  # Docker's own word
    merged = yaml.safe_load(text)  # this parser does not know merge keys
    wrapper = compose_spec.PyCompose.from_json(json.dumps(merged))
    wrapper.validate()
    assert sorted(wrapper.service_names()) == ["gateway-postgres", "gateway-valkey", "postgres", "valkey"]
    merged["services"]["valkey"]["nonsense"] = 1
    with pytest.raises(ValueError, match="nonsense"):
        compose_spec.PyCompose.from_json(json.dumps(merged))


def test_every_profile_has_a_gateway_and_its_ledger_and_no_secret_is_written_down():
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = document["services"]
    for profile in ("postgres", "valkey"):
        assert [name for name in services if services[name]["profiles"] == [profile]] == [f"gateway-{profile}", profile]
        gateway = services[f"gateway-{profile}"]
        assert list(gateway["depends_on"]) == [profile]
        assert (gateway["read_only"], gateway["cap_drop"]) == (True, ["ALL"])
        assert gateway["ports"][1].startswith("127.0.0.1:")  # the admin port, outside the container
        secret = [value for name, value in gateway["environment"].items() if re.search("TOKEN|SECRET|LEDGER", name)]
        assert len(secret) == 3
        assert all("${" in value and ":?" in value for value in secret)
    example = (DEPLOY / "example.env").read_text()
    for name in re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()):
        assert f"{name}=\n" in example


def test_the_settings_of_the_compose_file_can_be_used(secrets, monkeypatch):
    monkeypatch.setenv("MODELTOLL_ADMIN", "0.0.0.0:9090")
    monkeypatch.setenv("MODELTOLL_LEDGER__URL", "valkey://:x@valkey/0")
    settings = load_settings(DEPLOY / "modeltoll.yaml")
    assert settings.models["digits"].mode == "shadow"
    grace = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["x-gateway"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > settings.operation.drain_seconds + settings.operation.finish_seconds


# Kubernetes


@pytest.fixture(scope="module")
def rendered():
    """What ``make deploy`` has rendered, by kind and name."""
    documents = yaml.safe_load_all((DEPLOY / "helm" / "rendered.yaml").read_text())
    return {(each["kind"], each["metadata"]["name"]): each for each in documents if each}


def pod(rendered):
    return rendered["Deployment", "toll-modeltoll"]["spec"]["template"]["spec"]


def test_the_rendered_chart_passes_the_schemas_of_kubernetes(tmp_path):
    parts = (DEPLOY / "helm" / "rendered.yaml").read_text().split("\n---\n")
    (tmp_path / "known.yaml").write_text("\n---\n".join(part for part in parts if "monitoring.coreos.com" not in part))
    program = Path(sys.executable).with_name("kubernetes-validate")
    run = subprocess.run([program, "--strict", tmp_path / "known.yaml"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("passed") + run.stderr.count("passed") >= 8


def test_a_pod_has_no_rights_that_it_does_not_need(rendered):
    spec = pod(rendered)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    limits = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == limits


def test_a_pod_leaves_the_service_before_it_stops(rendered):
    """Readiness is asked more often than the gateway drains, and Kubernetes waits for all of it."""
    spec = pod(rendered)
    (container,) = spec["containers"]
    settings = yaml.safe_load(rendered["ConfigMap", "toll-modeltoll"]["data"]["modeltoll.yaml"])["operation"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["periodSeconds"] * 2 < settings["drain_seconds"]
    assert spec["terminationGracePeriodSeconds"] > settings["drain_seconds"] + settings["finish_seconds"]


def test_secrets_come_from_a_secret_and_stand_nowhere_else(rendered):
    (container,) = pod(rendered)["containers"]
    referred = {
        each["name"]: each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "valueFrom" in each
    }
    assert referred == {
        "MODELTOLL_LEDGER__URL": "ledger-url",
        "MODELTOLL_SECRETS": "secrets",
        "MODELTOLL_ADMIN_TOKEN": "admin-token",
    }
    assert not [kind for kind, _ in rendered if kind == "Secret"]


def test_the_settings_of_the_chart_can_be_used(rendered, secrets, tmp_path, monkeypatch):
    (container,) = pod(rendered)["containers"]
    for each in container["env"]:
        if "value" in each:
            monkeypatch.setenv(each["name"], each["value"])
    monkeypatch.setenv("MODELTOLL_LEDGER__URL", "postgresql://u:p@db/tolls")
    (tmp_path / "modeltoll.yaml").write_text(rendered["ConfigMap", "toll-modeltoll"]["data"]["modeltoll.yaml"])
    settings = load_settings(tmp_path / "modeltoll.yaml")
    assert (settings.listen, settings.admin) == ("0.0.0.0:8080", "0.0.0.0:9090")


def test_the_network_policy_lets_callers_to_the_public_port_and_operators_to_the_other(rendered):
    policy = rendered["NetworkPolicy", "toll-modeltoll"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    peers = {
        rule["ports"][0]["port"]: rule["from"][0]["namespaceSelector"]["matchLabels"]["name"]
        for rule in policy["ingress"]
    }
    assert peers == {"public": "ingress", "admin": "monitoring"}
    assert {} not in policy["egress"]
    assert len(policy["egress"]) == 3  # names, the model server, the ledger


def test_the_public_service_does_not_lead_to_the_admin_port(rendered):
    ports = {name: spec["spec"]["ports"] for (kind, name), spec in rendered.items() if kind == "Service"}
    assert [port["targetPort"] for port in ports["toll-modeltoll"]] == ["public"]
    assert [port["targetPort"] for port in ports["toll-modeltoll-admin"]] == ["admin"]


# Envoy


@pytest.fixture(scope="module")
def bootstrap():
    """Envoy's own type of its configuration, and those of the filters that it uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package is written for an older pydantic
        for name in ("filters.http.router", "filters.network.http_connection_manager", "upstreams.http"):
            import_module(f"envoy_data_plane.envoy.extensions.{name}.v3")
        return import_module("envoy_data_plane.envoy.config.bootstrap.v3").Bootstrap


def test_envoy_s_configuration_is_of_its_own_types(bootstrap):
    """Strictly: an unknown field, or a value of another type, is an error."""
    document = yaml.safe_load((DEPLOY / "envoy" / "envoy.yaml").read_text())
    (cluster,) = bootstrap.from_dict(document).static_resources.clusters
    assert cluster.name == "gateways"
    assert cluster.health_checks[0].http_health_check.path == "/readyz"
    (listener,) = document["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert route["route"]["cluster"] == "gateways"
    assert "retry_policy" not in route["route"]  # a request that is sent twice is charged twice
    document["static_resources"]["clusters"][0]["nonsense"] = 1
    with pytest.raises(KeyError, match="nonsense"):
        bootstrap.from_dict(document)


def test_no_file_of_the_deployment_names_a_secret():
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix in {".yaml", ".env", ".tpl", ".json", ""}:
            assert not re.search(r"[0-9a-f]{32}", path.read_text()), path
