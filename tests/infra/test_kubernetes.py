"""The Kubernetes manifests fit their kinds' schemas, each other, and the code."""

import json
import os
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from support.infra import INFRA, PROJECT, manifests, pinned, pods

SCHEMAS = Path(__file__).parent / "schemas"
MANIFESTS = manifests()
IDS = [f"{file}-{one['kind']}-{one['metadata'].get('name', 'generated')}" for file, one in MANIFESTS]
RAY = [one for _, one in MANIFESTS if one["apiVersion"].startswith("ray.io")]
PODS = [pod for _, one in MANIFESTS for pod in pods(one)]
KUBERNETES = "1.32"

every_manifest = pytest.mark.parametrize("manifest", [one for _, one in MANIFESTS], ids=IDS)
every_ray = pytest.mark.parametrize("manifest", RAY, ids=lambda one: one["kind"])
every_pod = pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["spec"]["containers"][0]["name"])


def named(kind: str, name: str) -> dict:
    (found,) = [one for _, one in MANIFESTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def cluster_of(manifest: dict) -> dict:
    spec = manifest["spec"]
    return spec["rayClusterSpec"] if manifest["kind"] == "RayJob" else spec


@every_manifest
def test_kubernetes_own_kinds_fit_their_schemas(manifest):
    if "." in manifest["apiVersion"] and not manifest["apiVersion"].split("/")[0].endswith(".k8s.io"):
        pytest.skip("a kind of KubeRay's")
    if manifest["apiVersion"].startswith("kueue"):
        pytest.skip("a kind of Kueue's")
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@every_pod
def test_pods_fit_their_schema(pod):
    whole = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", **pod.get("metadata", {})},
        "spec": pod["spec"],
    }
    kubernetes_validate.validate(whole, KUBERNETES, strict=True)


@every_ray
def test_rays_kinds_fit_the_fields_of_kuberay(manifest):
    jsonschema.validate(manifest, json.loads((SCHEMAS / "kuberay.json").read_text()))


@pytest.mark.skipif("STILLHOUSE_KUBERAY_CRDS" not in os.environ, reason="no folder of KubeRay's CRDs named")
@every_ray
def test_rays_kinds_fit_the_schemas_of_a_kuberay_release(manifest):
    name = f"ray.io_{manifest['kind'].lower()}s.yaml"
    definition = yaml.safe_load(Path(os.environ["STILLHOUSE_KUBERAY_CRDS"], name).read_text())
    (version,) = [v for v in definition["spec"]["versions"] if v["name"] == "v1"]
    jsonschema.validate(manifest, closed(version["schema"]["openAPIV3Schema"]))


def closed(schema: object) -> object:
    """The schema with unknown fields refused, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    more = {key: closed(value) for key, value in schema.items()}
    if schema.get("properties") and schema.get("type") == "object":
        more.setdefault("additionalProperties", False)
    return more


@every_ray
def test_a_cluster_has_the_rays_version_of_the_image_and_asks_for_a_token(manifest):
    cluster = cluster_of(manifest)
    assert cluster["rayVersion"] == pinned("ray")
    assert cluster["authOptions"] == {"mode": "token", "secretName": "ray-auth"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


@every_pod
def test_a_pod_is_not_root_and_has_the_projects_image(pod):
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]
    for container in spec["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["image"].split(":")[-1] in (f"{PROJECT['version']}-cpu", f"{PROJECT['version']}-cuda")
        assert "memory" in container["resources"]["limits"]


@every_pod
def test_what_a_pod_refers_to_exists(pod):
    documented = (INFRA / "kuberay" / "base.yaml").read_text()
    named("ServiceAccount", pod["spec"]["serviceAccountName"])
    for container in pod["spec"]["containers"]:
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                named("ConfigMap", source["configMapRef"]["name"])
            else:
                assert f"create secret generic {source['secretRef']['name']} " in documented
        for variable in container.get("env", ()):
            if "valueFrom" in variable:
                assert variable["valueFrom"]["secretKeyRef"]["key"] in documented
            else:
                assert not {"PASSWORD", "SECRET", "TOKEN"} & set(variable["name"].split("_"))


@every_ray
def test_workers_have_gpus_and_time_for_a_checkpoint(manifest):
    for group in cluster_of(manifest)["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1 and container["image"].endswith("-cuda")
        assert spec["terminationGracePeriodSeconds"] >= 60
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_only_the_cluster_that_stays_scales_and_its_head_may_ask_for_pods():
    (cluster,) = [one["spec"] for one in RAY if one["kind"] == "RayCluster"]
    assert cluster["enableInTreeAutoscaling"] and cluster["workerGroupSpecs"][0]["minReplicas"] == 0
    assert cluster["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"]
    assert cluster["autoscalerOptions"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_job_waits_for_its_gang_and_is_tried_again_on_a_new_cluster():
    (job,) = [one for one in RAY if one["kind"] == "RayJob"]
    spec, queue = job["spec"], job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert spec["suspend"] and named("LocalQueue", queue)["metadata"]["namespace"] == job["metadata"]["namespace"]
    assert named("LocalQueue", queue)["spec"]["clusterQueue"] == named("ClusterQueue", queue)["metadata"]["name"]
    # What KubeRay's operator refuses, beyond the schema.
    assert spec["shutdownAfterJobFinishes"] and "deletionStrategy" not in spec and "clusterSelector" not in spec
    assert spec["backoffLimit"] > 0 and spec["submissionMode"] == "K8sJobMode"
    # What Kueue refuses.
    assert not spec["rayClusterSpec"].get("enableInTreeAutoscaling")
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]


def test_the_queue_has_room_for_the_job():
    (job,) = [one for one in RAY if one["kind"] == "RayJob"]
    (group,) = named("ClusterQueue", "stillhouse")["spec"]["resourceGroups"]
    quota = {r["name"]: str(r["nominalQuota"]) for r in group["flavors"][0]["resources"]}
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    each = workers["template"]["spec"]["containers"][0]["resources"]["requests"]
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    for name in group["coveredResources"]:
        claimed = workers["replicas"] * amount(each[name]) + amount(head.get(name, 0))
        assert claimed <= amount(quota[name]), name


def amount(text: str | int) -> float:
    return float(str(text).removesuffix("Gi"))


@pytest.mark.parametrize("kind, path", [("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")])
def test_policies_select_pods_that_exist(kind, path):
    policies = [one["spec"][path] for _, one in MANIFESTS if one["kind"] == kind]
    labels = [pod["metadata"]["labels"] for pod in PODS]
    assert len(policies) >= 2
    for wanted in (policy.get("matchLabels", {}) for policy in policies):
        assert any(wanted.items() <= one.items() for one in labels), wanted


def test_everyone_is_kept_out_who_is_not_let_in():
    assert named("NetworkPolicy", "nobody")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert not [one for _, one in MANIFESTS if one["kind"] == "Ingress"]
    services = [one["spec"] for _, one in MANIFESTS if one["kind"] == "Service"]
    assert all(service.get("type", "ClusterIP") == "ClusterIP" for service in services)


def test_ports_that_policies_open_are_those_that_pods_listen_on():
    opened = {rule["port"] for _, one in MANIFESTS if one["kind"] == "NetworkPolicy"
              for ingress in one["spec"].get("ingress", ()) for rule in ingress.get("ports", ())}  # fmt: skip
    listened = {port["containerPort"] for pod in PODS for c in pod["spec"]["containers"] for port in c.get("ports", ())}
    assert opened and opened <= listened
    for manifest in RAY:
        cluster = cluster_of(manifest)
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        for group in groups:
            ports = [p["containerPort"] for p in group["template"]["spec"]["containers"][0]["ports"]]
            assert int(group["rayStartParams"]["metrics-export-port"]) in ports


def test_mlflow_answers_where_ray_looks_for_it():
    service, settings = named("Service", "mlflow"), named("ConfigMap", "stillhouse")["data"]
    (port,) = service["spec"]["ports"]
    address = f"mlflow.{service['metadata']['namespace']}.svc:{port['port']}"
    assert settings["MLFLOW_TRACKING_URI"] == f"http://{address}"
    (container,) = named("Deployment", "mlflow")["spec"]["template"]["spec"]["containers"]
    assert any(a.startswith("--allowed-hosts=") and address in a for a in container["args"])
    assert "--app-name=basic-auth" in container["args"] and f"--port={port['port']}" in container["args"]
