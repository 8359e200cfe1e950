"""The manifests of docs/kubernetes: valid to Kubernetes, and their numbers fit each other and the program's."""

from __future__ import annotations

import inspect
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from healthlb.cli import probe
from healthlb.cli.flags import parse_flags
from healthlb.resolvers import DnsResolver
from healthlb.server import serve_until_signal
from tests.docs.pages import ROOT, blocks

FOLDER = ROOT / "docs" / "kubernetes"
PAGE = ROOT / "docs" / "kubernetes.md"
FILES = sorted(FOLDER.glob("*.yaml"))
VERSIONS = ("1.29", kubernetes_validate.latest_version())
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
DNS_CACHE = 30  # Seconds: what CoreDNS says by default.


def load(name: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a manifest by kind."""
    objects = list(yaml.safe_load_all((FOLDER / name).read_text()))
    by_kind = {found["kind"]: found for found in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def pod_of(deployment: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a Deployment's pod and its one container."""
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


@pytest.fixture(params=["server.yaml", "server-exec.yaml"])
def server(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    return load(request.param)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_manifests_are_valid(path: Any, version: str) -> None:
    for found in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(found, version, strict=True)


def test_the_validation_finds_mistakes() -> None:
    deployment = load("server.yaml")["Deployment"]
    _, container = pod_of(deployment)
    container["readinessProbe"]["grpc"]["port"] = "grpc"

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_selectors_select_their_pods(path: Any) -> None:
    objects = load(path.name)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    if "Service" in objects:
        assert objects["Service"]["spec"]["selector"] == labels
        assert objects["Service"]["spec"]["clusterIP"] == "None"
    assert {found["metadata"].get("namespace", "shop") for found in objects.values()} == {"shop"}


def test_ports_are_those_of_the_service(server: dict[str, dict[str, Any]]) -> None:
    (port,) = server["Service"]["spec"]["ports"]
    _, container = pod_of(server["Deployment"])

    assert container["ports"] == [{"name": port["targetPort"], "containerPort": port["port"]}]
    assert {_port(container[kind]) for kind in PROBES} == {port["port"]}


def _port(found: dict[str, Any]) -> int:
    if "grpc" in found:
        return int(found["grpc"]["port"])
    return int(_flags(found)["addr"].rpartition(":")[2])


def _flags(found: dict[str, Any]) -> dict[str, Any]:
    command = found["exec"]["command"]
    assert command[:2] == ["healthlb", "probe"]
    values = parse_flags(probe.FLAGS, command[2:])
    probe._check_options(values)
    return values


def test_readiness_and_liveness_ask_for_different_services(server: dict[str, dict[str, Any]]) -> None:
    _, container = pod_of(server["Deployment"])
    asked = {
        kind: found["grpc"]["service"] if "grpc" in found else _flags(found)["service"]
        for kind in PROBES
        for found in [container[kind]]
    }
    program = _program()

    assert asked == {"startupProbe": "liveness", "readinessProbe": "shop.Cart", "livenessProbe": "liveness"}
    assert 'health.set("liveness"' in program
    assert '{"shop.Cart": [' in program


def _program() -> str:
    (program,) = (block.text for block in blocks(PAGE) if block.remark == "file: cart.py")
    return program


def test_the_grace_period_is_longer_than_the_lame_duck(server: dict[str, dict[str, Any]]) -> None:
    pod, container = pod_of(server["Deployment"])
    told = re.search(r"serve_until_signal\(server, health, drain=([\d.]+), grace=([\d.]+)\)", _program())
    assert told is not None
    parameters = inspect.signature(serve_until_signal).parameters
    drain, grace = (parameters[name].default for name in ("drain", "grace"))

    assert (float(told[1]), float(told[2])) == (drain, grace)
    assert pod["terminationGracePeriodSeconds"] > drain + grace
    assert "lifecycle" not in container


def test_the_probes_have_time_for_what_they_do() -> None:
    _, container = pod_of(load("server-exec.yaml")["Deployment"])
    for kind in PROBES:
        flags = _flags(container[kind])

        assert container[kind]["timeoutSeconds"] > flags["connect-timeout"] + flags["rpc-timeout"]
        assert container[kind]["periodSeconds"] >= container[kind]["timeoutSeconds"]


def test_clients_find_a_new_pod_before_the_next_old_one_leaves(server: dict[str, dict[str, Any]]) -> None:
    interval = inspect.signature(DnsResolver).parameters["interval"].default

    assert server["Deployment"]["spec"]["minReadySeconds"] >= interval + DNS_CACHE
    assert server["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_client_resolves_the_headless_service(server: dict[str, dict[str, Any]]) -> None:
    service = server["Service"]
    _, container = pod_of(load("client.yaml")["Deployment"])
    (variable,) = container["env"]
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"

    assert variable == {"name": "CART_TARGET", "value": f"dns:///{name}:{service['spec']['ports'][0]['port']}"}
    assert variable["value"] in PAGE.read_text()


def test_the_page_shows_every_manifest() -> None:
    shown = re.findall(r"^```\{literalinclude\} kubernetes/(\S+)$", PAGE.read_text(), re.MULTILINE)

    assert sorted(shown) == [path.name for path in FILES]
