"""deploy/kubernetes and what is observed: valid by their schemas, and true of the program."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from purlkit import growth
from purlkit.growth import Group
from services import metrics
from services.database import Database
from services.gauges import Gauges
from tests import compose

ROOT = compose.ROOT
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
KUBERNETES_VERSION = "1.34"
# The operators' own definitions; see tools/crd_schemas.py. What is no pod in them is refused where they don't know it.
OF_OTHERS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "tests/schemas").glob("*.json")}


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in KUBERNETES:
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict) and document["kind"] != "Kustomization":
                yield f"{path.stem}: {document['kind']} {document['metadata']['name']}", document


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods of the Ray cluster, those of the GPU overlay's group among them."""
    cluster = next(document for _, document in documents() if document["kind"] == "RayCluster")["spec"]
    (gpu,) = yaml.safe_load((DEPLOY / "kubernetes/gpu/raycluster-gpu.yaml").read_text())
    groups = [*cluster["workerGroupSpecs"], gpu["value"]]
    for name, group in (("head", cluster["headGroupSpec"]), *((group["groupName"], group) for group in groups)):
        template = group["template"]
        yield name, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]}


@pytest.mark.parametrize(
    ("name", "document"), [*documents(), *pods()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_manifest_is_valid_by_the_schema(name: str, document: dict[str, Any]) -> None:
    if document["kind"] in OF_OTHERS:
        assert document["apiVersion"] in ("ray.io/v1", "monitoring.coreos.com/v1"), name
        jsonschema.validate(document, OF_OTHERS[document["kind"]])
        return
    kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_the_cluster_with_its_gpu_nodes_is_valid_and_what_kuberay_does_not_know_is_not() -> None:
    cluster = copy.deepcopy(next(document for _, document in documents() if document["kind"] == "RayCluster"))
    (gpu,) = yaml.safe_load((DEPLOY / "kubernetes/gpu/raycluster-gpu.yaml").read_text())
    cluster["spec"]["workerGroupSpecs"].append(gpu["value"])

    jsonschema.validate(cluster, OF_OTHERS["RayCluster"])
    gpu["value"]["minimumReplicas"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minimumReplicas"):
        jsonschema.validate(cluster, OF_OTHERS["RayCluster"])


def test_the_cluster_of_own_hosts_is_valid_by_rays_schema() -> None:
    package = find_spec("ray")
    assert package is not None
    assert package.origin is not None
    schema = json.loads((Path(package.origin).parent / "autoscaler/ray-schema.json").read_text())

    jsonschema.validate(yaml.safe_load((DEPLOY / "ray/cluster.yaml").read_text()), schema)


def test_own_hosts_can_write_their_cache_and_their_head_needs_no_gpu() -> None:
    docker = yaml.safe_load((DEPLOY / "ray/cluster.yaml").read_text())["docker"]
    options = [*docker["run_options"], *docker["worker_run_options"]]
    environ = compose.image_environ("deploy/workers.Dockerfile")
    environ |= dict(one.removeprefix("--env=").split("=", 1) for one in options if one.startswith("--env="))
    read_only = [one.split(":")[1] for one in options if one.startswith("--volume=") and one.endswith(":ro")]

    assert read_only
    assert [path for path in read_only if Path(environ["PURL_DATASETS_CACHE"]).is_relative_to(path)] == []
    assert not [one for one in docker["run_options"] if "gpu" in one]
    assert "--gpus=all" in docker["worker_run_options"]


def test_the_job_that_migrates_is_in_nobodys_way_when_something_is_applied_again() -> None:
    """A Job can't be changed: one that stays would refuse every other setting and image."""
    (job,) = (document for _, document in documents() if document["kind"] == "Job")

    assert 0 < job["spec"]["ttlSecondsAfterFinished"] <= 3600


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed, and Debian has one too old")
@pytest.mark.parametrize("layer", ["base", "gpu"])
def test_kustomize_puts_both_layers_together(layer: str) -> None:
    said = subprocess.run(["kubectl", "kustomize", DEPLOY / "kubernetes" / layer], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    made = [*yaml.safe_load_all(said.stdout)]
    (settings,) = (document for document in made if document["kind"] == "ConfigMap")
    (cluster,) = (document["spec"] for document in made if document["kind"] == "RayCluster")
    images = [group["template"]["spec"]["containers"][0]["image"] for group in cluster["workerGroupSpecs"]]

    assert {document["metadata"].get("namespace", "purl") for document in made} == {"purl"}
    assert images == ["purl-workers:local-cpu", "purl-workers:local-cuda"][: len(images)]
    assert len(growth.parse(settings["data"]["PURL_RAY_GROWS_TO"])) == len(images) == (2 if layer == "gpu" else 1)
    assert said.stdout.count(f"name: {settings['metadata']['name']}\n") == 4, "it, and the three that are given it"


def test_no_container_may_be_more_than_it_has_to_be() -> None:
    specs = [spec["spec"] for _, spec in pods()]
    specs += [
        document["spec"]["template"]["spec"] for _, document in documents() if "template" in document.get("spec", {})
    ]

    assert len(specs) == 6
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])


def test_nobody_reaches_a_port_of_rays_but_ray_itself_and_the_dashboards_two_callers() -> None:
    policies = {document["metadata"]["name"]: document["spec"] for _, document in documents()
                if document["kind"] == "NetworkPolicy"}  # fmt: skip
    said = [
        (policy["podSelector"], rule)
        for policy in policies.values()
        for rule in policy.get("ingress", ())
        if policy["podSelector"] in ({}, {"matchLabels": {"purl/role": "ray"}})
    ]

    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    of_ray = {"podSelector": {"matchLabels": {"purl/role": "ray"}}}
    for pods, rule in said:
        if pods == {}:  # Prometheus, of everything
            assert [one["port"] for one in rule["ports"]] == [8000, 9000, 8080]
        elif "ports" in rule:
            assert [one["port"] for one in rule["ports"]] == [8265]
            assert {"podSelector": {"matchLabels": {"purl/role": "service"}}} in rule["from"]
        else:
            assert rule["from"] == [of_ray]
    assert len(said) == 3


def test_the_head_runs_no_work_and_there_are_no_gpu_nodes_until_they_are_needed() -> None:
    cluster = next(document for _, document in documents() if document["kind"] == "RayCluster")["spec"]
    (gpu,) = yaml.safe_load((DEPLOY / "kubernetes/gpu/raycluster-gpu.yaml").read_text())

    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    assert cluster["enableInTreeAutoscaling"] is True
    assert gpu["value"]["minReplicas"] == gpu["value"]["replicas"] == 0


def test_the_service_is_told_how_far_the_cluster_may_grow() -> None:
    cluster = next(document for _, document in documents() if document["kind"] == "RayCluster")["spec"]
    (gpu,) = yaml.safe_load((DEPLOY / "kubernetes/gpu/raycluster-gpu.yaml").read_text())
    overlay = yaml.safe_load((DEPLOY / "kubernetes/gpu/kustomization.yaml").read_text())
    base = dict(line.split("=", 1) for line in (DEPLOY / "kubernetes/base/settings.env").read_text().split())
    merged = dict(line.split("=", 1) for line in overlay["configMapGenerator"][0]["literals"])

    def said(*groups: dict[str, Any]) -> tuple[Group, ...]:
        limits = [group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in groups]
        counts = [group["maxReplicas"] for group in groups]
        return tuple(
            Group(count, int(limit["cpu"]), int(limit.get("nvidia.com/gpu", 0)))
            for count, limit in zip(counts, limits, strict=True)
        )

    assert growth.parse(base["PURL_RAY_GROWS_TO"]) == said(*cluster["workerGroupSpecs"])
    assert growth.parse(merged["PURL_RAY_GROWS_TO"]) == said(*cluster["workerGroupSpecs"], gpu["value"])


def test_every_deployment_outlives_the_drain_of_a_node() -> None:
    found = {document["metadata"]["name"]: document for _, document in documents() if document["kind"] == "Deployment"}
    budgets = [document for _, document in documents() if document["kind"] == "PodDisruptionBudget"]

    assert {budget["metadata"]["name"] for budget in budgets} == set(found) == {"api", "dispatcher"}
    for budget in budgets:
        deployment = found[budget["metadata"]["name"]]["spec"]
        assert budget["spec"]["selector"] == deployment["selector"]
        assert budget["spec"]["minAvailable"] < deployment["replicas"]


def test_versions_are_those_of_the_lock_file() -> None:
    locked = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE))
    cluster = next(document for _, document in documents() if document["kind"] == "RayCluster")["spec"]

    assert cluster["rayVersion"] == locked["ray"]


ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
RULES = [rule for group in ALERTS for rule in group["rules"]]


def test_alerts_are_the_same_in_both_places() -> None:
    rule = next(document for _, document in documents() if document["kind"] == "PrometheusRule")

    assert rule["spec"]["groups"] == ALERTS


def test_every_alert_has_a_runbook() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/operate.md").read_text(), flags=re.MULTILINE)

    assert headings == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"docs/operate.md#{rule['alert'].lower()}"


def test_every_series_that_is_asked_for_exists_and_is_documented(sqlite_url: str) -> None:
    board = json.loads((DEPLOY / "grafana/purl.json").read_text())
    asked = [rule["expr"] for rule in RULES]
    asked += [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    named = {name for expr in asked for name in re.findall(r"\bpurl_\w+", expr)}
    with closing(Database.open(sqlite_url)) as db:
        told = [*text_string_to_metric_families(metrics.render(Gauges(db).registry).decode())]
    families = {family.name: family for family in told}
    series = {f"{name}{suffix}" for name in families for suffix in ("", "_total", "_bucket", "_count", "_sum")}
    documented = set(re.findall(r"^\| `(purl_\w+)", (ROOT / "docs/operate.md").read_text(), flags=re.MULTILINE))

    assert len(named) > 10
    assert named <= series
    assert {name.removesuffix("_total") for name in documented} == {
        name for name in families if name.startswith("purl_")
    }
