"""The manifests: read as kustomize reads them, and held to Kubernetes' own schemas.

Kustomize is no package of Debian or PyPI. `build` does here what the manifests use of it: resources of other folders,
generated config maps, patches that delete, image tags. What it does not know is an error.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from swapline_cloud import config as cloud_config
from swapline_cloud.database.rows import asking
from swapline_cloud.rollup import FOREVER, RAW
from swapline_gateway import config as gateway_config

K8S = Path(__file__).parents[2] / "cloud" / "k8s"
ROOTS = ["base", "overlays/influxdb3", "overlays/victoriametrics"]
VERSION = "1.33"
CUSTOM = {"apps.emqx.io/v2beta1": {"EMQX"}, "operator.victoriametrics.com/v1beta1": {"VMCluster"}}  # operators' own
KNOWN_KEYS = {"apiVersion", "kind", "namespace", "labels", "resources", "configMapGenerator", "images", "patches"}
Resource = dict[str, Any]
Key = tuple[str, str]


def documents(path: Path) -> list[Resource]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def build(folder: Path) -> dict[Key, Resource]:
    """Return what `kustomize build` would send, by kind and name."""
    (recipe,) = documents(folder / "kustomization.yaml")
    assert set(recipe) <= KNOWN_KEYS, set(recipe) - KNOWN_KEYS
    found: dict[Key, Resource] = {}
    for name in recipe.get("resources", []):
        path = folder / name
        more = build(path.resolve()) if path.is_dir() else {key_of(one): one for one in documents(path)}
        assert not found.keys() & more.keys(), f"twice: {found.keys() & more.keys()}"
        found |= more
    for generator in recipe.get("configMapGenerator", []):
        key = ("ConfigMap", generator["name"])
        assert (key in found) == (generator.get("behavior") == "replace"), key
        data = {Path(file).name: (folder / file).read_text() for file in generator["files"]}
        found[key] = {"apiVersion": "v1", "kind": key[0], "metadata": {"name": key[1]}, "data": data}
    for patch in recipe.get("patches", []):
        (wanted,) = documents(folder / patch["path"])  # kustomize 5.5 crashes at several that delete in one file
        assert wanted.get("$patch") == "delete", "this builder knows no other patch"
        del found[key_of(wanted)]
    for image in recipe.get("images", []):
        for container in containers(found.values()):
            if container["image"] == image["name"]:
                container["image"] += f":{image['newTag']}"
    return found


def key_of(resource: Resource) -> Key:
    return resource["kind"], resource["metadata"]["name"]


def pods(resources: Any) -> Iterator[Resource]:
    """Yield the pod templates of everything that makes pods."""
    for resource in resources:
        spec = resource.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "containers" in spec.get("template", {}).get("spec", {}):
            yield spec["template"]


def containers(resources: Any) -> Iterator[Resource]:
    for pod in pods(resources):
        yield from pod["spec"]["containers"]


def check(resource: Resource) -> None:
    """Hold a resource to Kubernetes' schema. Raises `kubernetes_validate.ValidationError`."""
    if resource["kind"] in CUSTOM.get(resource["apiVersion"], ()):
        assert resource["metadata"]["name"]
        assert resource["spec"]
        return
    kubernetes_validate.validate(resource, VERSION, strict=True)


@pytest.mark.parametrize("root", ROOTS)
def test_every_manifest_is_as_kubernetes_wants_it(root: str) -> None:
    resources = build(K8S / root)
    assert len(resources) >= 10
    for resource in resources.values():
        check(resource)


def test_misspelt_key_is_found() -> None:
    resources = build(K8S / "base")
    resources["StatefulSet", "gateway"]["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        check(resources["StatefulSet", "gateway"])


def test_every_file_belongs_to_a_recipe() -> None:
    named = {K8S / root / "kustomization.yaml" for root in ROOTS}
    for root in ROOTS:
        (recipe,) = documents(K8S / root / "kustomization.yaml")
        files = [*recipe.get("resources", []), *(patch["path"] for patch in recipe.get("patches", []))]
        files += [file for generator in recipe.get("configMapGenerator", []) for file in generator["files"]]
        named |= {(K8S / root / file).resolve() for file in files}
    assert {path for path in K8S.rglob("*") if path.is_file()} <= named


@pytest.mark.parametrize("root", ROOTS)
def test_images_are_pinned_and_containers_have_no_rights_that_they_do_not_need(root: str) -> None:
    resources = build(K8S / root)
    for pod in pods(resources.values()):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["spec"]["automountServiceAccountToken"] is False
    for container in containers(resources.values()):
        tag = container["image"].rpartition(":")[2]
        assert tag[0].isdigit(), container["image"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("root", ROOTS)
def test_what_is_referred_to_is_there(root: str) -> None:
    resources = build(K8S / root)
    secrets = set()
    for pod in pods(resources.values()):
        claimed = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in resources
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in resources
            secrets.add(volume.get("secret", {}).get("secretName"))
        templates = {
            template["metadata"]["name"]
            for resource in resources.values()
            for template in resource.get("spec", {}).get("volumeClaimTemplates", [])
            if resource["spec"].get("template") is pod
        }
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= claimed | templates
    assert secrets - {None} <= {"swapline-gateway", "swapline-cloud"}, "docs/scale.md tells how to make these"
    target = resources["HorizontalPodAutoscaler", "gateway"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in resources
    labels = resources["StatefulSet", "gateway"]["spec"]["template"]["metadata"]["labels"]
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        selector = (
            resources[kind, "gateway"]["spec"].get("selector") or resources[kind, "gateway"]["spec"]["podSelector"]
        )
        assert selector["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("root", ROOTS)
def test_page_tells_how_to_make_every_secret_that_a_configuration_reads(root: str) -> None:
    resources = build(K8S / root)
    page = (K8S.parents[1] / "docs" / "scale.md").read_text().replace("\\\n", "")
    made = {
        name: set(re.findall(r"--from-file=(?:\S*/)?([^\s/=]+)", line))
        for name, line in re.findall(r"create secret generic (\S+) (.+)", page)
    }
    used = [("gateway-config", "gateway.toml", "swapline-gateway")]
    used += [("cloud-config", "cloud.toml", "swapline-cloud")] if ("CronJob", "apply") in resources else []
    for config_map, file, secret in used:
        text = resources["ConfigMap", config_map]["data"][file]
        assert set(re.findall(r'"/run/secrets/swapline/([^"/]+)"', text)) <= made[secret]
        if 'secrets = "/run/secrets/swapline"' in text:
            assert "grafana.token" in made[secret]


@pytest.mark.parametrize("root", ROOTS)
def test_configurations_are_ones_that_swapline_reads(root: str, tmp_path: Path) -> None:
    resources = build(K8S / root)
    text = resources["ConfigMap", "gateway-config"]["data"]["gateway.toml"]
    parsed = gateway_config.parse(without_files(tomllib.loads(text)), source="gateway.toml", folder=tmp_path)
    assert parsed.mqtt.share_group == "gateways"
    mounts = {mount["mountPath"] for container in containers(resources.values()) for mount in container["volumeMounts"]}
    assert str(parsed.spool.path.parent) in mounts
    if ("CronJob", "apply") in resources:
        # Every replica makes the outlook; boards and alerts want one within ten minutes.
        assert not parsed.outlook.keep or 2 * parsed.outlook.interval_s <= 600
        text = resources["ConfigMap", "cloud-config"]["data"]["cloud.toml"]
        assert cloud_config.CloudConfig.model_validate(without_files(tomllib.loads(text))).database.url


def gateway_of(root: str, folder: Path) -> gateway_config.GatewayConfig:
    text = build(K8S / root)["ConfigMap", "gateway-config"]["data"]["gateway.toml"]
    return gateway_config.parse(without_files(tomllib.loads(text)), source="gateway.toml", folder=folder)


@pytest.mark.parametrize("root", ROOTS)
def test_what_is_asked_in_influxql_is_off_where_nobody_answers_it(root: str, tmp_path: Path) -> None:
    parsed = gateway_of(root, tmp_path)
    assert isinstance(parsed.sink, gateway_config.Influxdb2Config)
    is_answered = root != "overlays/victoriametrics"
    assert (parsed.battery.keep, parsed.outlook.keep, parsed.sink.reader.token is not None) == (is_answered,) * 3


@pytest.mark.parametrize(("root", "between"), [("base", "_"), ("overlays/influxdb3", "/")])
def test_gateways_write_to_where_apply_makes_a_place(root: str, between: str, tmp_path: Path) -> None:
    text = build(K8S / root)["ConfigMap", "cloud-config"]["data"]["cloud.toml"]
    database = cloud_config.CloudConfig.model_validate(without_files(tomllib.loads(text))).database
    assert (database.version == 3) == (between == "/"), "in 3.x a policy is a database of its own"
    sink = gateway_of(root, tmp_path).sink
    assert isinstance(sink, gateway_config.Influxdb2Config)
    raw = database.database if between == "_" else f"{database.database}/{RAW}"
    assert (sink.bucket, sink.forever_bucket) == (raw, f"{database.database}{between}{FOREVER}")
    asked = asking(database).reader
    assert (sink.reader.database or sink.bucket, sink.reader.policy) == (database.database, asked.policy)


def without_files(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration in which secrets stand themselves, not the files that a cluster would mount."""
    return {
        key.removesuffix("_file"): without_files(value)
        if isinstance(value, dict)
        else "secret"
        if key.endswith("_file")
        else value
        for key, value in raw.items()
    }
