"""The broker cluster: what EMQX's operator would make of its manifest, who may connect, and who may say what.

No EMQX is at hand. The operator (2.2) copies parts of a template into pods as they are; those pods are made here and
held to Kubernetes' schema. The access list is read as EMQX 5.8 reads it: a rule's topics are filled in, then split into
words.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest

from swapline_gateway import uplink
from swapline_wire.topic import ACK, DOWN, FRAMES, REPLY, STATUS, format_topic
from tests.cloud.test_k8s import K8S, ROOTS, VERSION, Resource, build, gateway_of

# Fields of the operator's own: docs/en_US/reference/v2beta1-reference.md of emqx-operator.
SPEC = {"image", "config", "coreTemplate", "replicantTemplate", "listenersServiceTemplate"}
COPIED = {"resources": "resources", "containerSecurityContext": "securityContext", "env": "env"}
COPIED |= {"extraVolumeMounts": "volumeMounts"}  # into the container; the others into the pod
TEMPLATE = {"replicas", "podSecurityContext", "extraVolumes", "volumeClaimTemplates", *COPIED}
TEMPLATES = ("coreTemplate", "replicantTemplate")
OPEN_BY_DEFAULT = {"tcp.default": 1883, "ssl.default": 8883, "ws.default": 8083, "wss.default": 8084}
NODE, OTHER, SAME_NAME_ELSEWHERE = "demo/van-001", "demo/van-002", "other/van-001"
PUBLISH, SUBSCRIBE = "publish", "subscribe"


@pytest.fixture(scope="module")
def base() -> dict[tuple[str, str], Resource]:
    return build(K8S / "base")


@pytest.fixture(scope="module")
def settings(base: dict[tuple[str, str], Resource]) -> dict[str, str]:
    """Return EMQX's configuration, which we write as one key a line."""
    lines = base["EMQX", "emqx"]["spec"]["config"]["data"].splitlines()
    found = [re.fullmatch(r"([a-z_.]+) = (.+)", line) for line in lines if not line.startswith("#")]
    assert all(found), "a line is `key = value`"
    return {match[1]: match[2].strip('"') for match in found if match}


def pod_of(template: Resource, image: str) -> Resource:
    """Return the pod that the operator makes of a template, without what it adds."""
    spec = template["spec"]
    container = {"name": "emqx", "image": image} | {there: spec[ours] for ours, there in COPIED.items()}
    pod = {"containers": [container], "volumes": spec["extraVolumes"], "securityContext": spec["podSecurityContext"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "emqx"}, "spec": pod}


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_of_the_broker_are_ones_that_the_namespace_lets_in(base: dict[Any, Resource], name: str) -> None:
    spec = base["EMQX", "emqx"]["spec"]
    assert set(spec) <= SPEC
    assert set(spec[name]["spec"]) <= TEMPLATE
    assert base["Namespace", "swapline"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = pod_of(spec[name], spec["image"])
    kubernetes_validate.validate(pod, VERSION, strict=True)
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_stores_of_an_operator_are_ones_that_the_namespace_lets_in() -> None:
    assert build(K8S / "overlays/victoriametrics")["VMCluster", "store"]["spec"]["useStrictSecurity"] is True


def listeners(settings: dict[str, str]) -> dict[str, int]:
    """Return the listeners that are open, with their ports: EMQX's own four, unless they are shut, and ours."""
    found = dict(OPEN_BY_DEFAULT)
    for key, value in settings.items():
        if match := re.fullmatch(r"listeners\.(\w+\.\w+)\.bind", key):
            found[match[1]] = int(value.rpartition(":")[2])
    return {name: port for name, port in found.items() if settings.get(f"listeners.{name}.enable") != "false"}


def test_nobody_connects_without_a_certificate_of_ours(settings: dict[str, str], base: dict[Any, Resource]) -> None:
    opened = listeners(settings)
    assert opened == {"ssl.default": 8883, "ssl.gateways": 8884}
    mounts = base["EMQX", "emqx"]["spec"]["coreTemplate"]["spec"]["extraVolumeMounts"]
    for name in opened:
        options = f"listeners.{name}.ssl_options"
        assert settings[f"{options}.verify"] == "verify_peer"
        assert settings[f"{options}.fail_if_no_peer_cert"] == "true"
        for file in ("certfile", "keyfile", "cacertfile"):
            assert str(Path(settings[f"{options}.{file}"]).parent) in {mount["mountPath"] for mount in mounts}
    assert settings["mqtt.peer_cert_as_username"] == "cn"
    assert settings["authorization.no_match"] == "deny"


def test_what_moved_in_emqx_5_1_is_where_it_is_looked_for(settings: dict[str, str]) -> None:
    assert not [key for key in settings if key.startswith("broker.")]  # ignored since then
    assert settings["mqtt.shared_subscription_strategy"] == "hash_clientid"


@pytest.mark.parametrize("root", ROOTS)
def test_gateways_come_by_a_listener_that_has_no_rate_of_a_node(
    root: str, settings: dict[str, str], base: dict[Any, Resource], tmp_path: Path
) -> None:
    mqtt = gateway_of(root, tmp_path).mqtt
    name = next(name for name, port in listeners(settings).items() if port == mqtt.port)
    assert f"listeners.{name}.messages_rate" not in settings
    assert mqtt.host == base["EMQX", "emqx"]["spec"]["listenersServiceTemplate"]["metadata"]["name"]
    assert mqtt.tls is not None
    mounts = base["StatefulSet", "gateway"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    for _, file in mqtt.tls:
        assert str(file.parent) in {mount["mountPath"] for mount in mounts}


def test_gateways_port_is_for_gateways_only(base: dict[Any, Resource]) -> None:
    rules = base["NetworkPolicy", "emqx"]["spec"]["ingress"]
    (rule,) = [rule for rule in rules if {"port": 8884} in rule.get("ports", [])]
    labels = base["StatefulSet", "gateway"]["spec"]["template"]["metadata"]["labels"]
    assert rule["from"] == [{"podSelector": {"matchLabels": labels}}]
    (anybody,) = [rule for rule in rules if "from" not in rule]
    assert anybody["ports"] == [{"port": 8883}]


class Rule(NamedTuple):
    """A line of acl.conf."""

    permission: str
    user: str | None  # None: everybody
    action: str
    topics: tuple[str, ...]


@pytest.fixture(scope="module")
def rules(base: dict[Any, Resource]) -> list[Rule]:
    found = []
    for line in base["ConfigMap", "emqx-acl"]["data"]["acl.conf"].splitlines():
        if line == "{deny, all}.":
            found.append(Rule("deny", None, "all", ("#",)))
            continue
        match = re.fullmatch(r"\{(allow|deny), (all|\{username, \"(.+)\"\}), (\w+), \[(.+)\]\}\.", line)
        assert match, line
        found.append(Rule(match[1], match[3], match[4], tuple(re.findall(r'"([^"]+)"', match[5]))))
    return found


def may(rules: list[Rule], user: str, action: str, topic: str) -> bool:
    """Say what EMQX says: the first rule that fits counts."""
    for rule in rules:
        fits = rule.user in (None, user) and rule.action in ("all", action)
        if fits and any(covers(one.replace("${username}", user), topic) for one in rule.topics):
            return rule.permission == "allow"
    return False


def covers(pattern: str, topic: str) -> bool:
    """Say whether a filter covers a topic, or every topic of another filter."""
    words, wanted = pattern.split("/"), topic.split("/")
    for i, word in enumerate(words):
        if word == "#":
            return not (i == 0 and wanted[0].startswith("$"))
        if i >= len(wanted) or word not in ("+", wanted[i]):
            return False
    return len(words) == len(wanted)


def topics_of(user: str, *channels: str) -> list[str]:
    fleet, node = user.split("/")
    return [format_topic(fleet, node, channel) for channel in channels]


def test_node_with_a_certificate_of_ours_says_what_it_has_to_say_and_hears_what_is_for_it(rules: list[Rule]) -> None:
    assert all(may(rules, NODE, PUBLISH, topic) for topic in topics_of(NODE, *FRAMES, STATUS, REPLY))
    assert all(may(rules, NODE, SUBSCRIBE, topic) for topic in topics_of(NODE, ACK, DOWN))


@pytest.mark.parametrize("other", [OTHER, SAME_NAME_ELSEWHERE])
def test_node_neither_speaks_for_another_one_nor_listens_to_it(rules: list[Rule], other: str) -> None:
    for topic in topics_of(other, *FRAMES, STATUS, REPLY, ACK, DOWN):
        assert not may(rules, NODE, PUBLISH, topic)
        assert not may(rules, NODE, SUBSCRIBE, topic)
    assert not any(may(rules, NODE, SUBSCRIBE, topic) for topic in ("#", "swapline/v1/#", "swapline/v1/+/+/live"))
    assert not any(may(rules, NODE, PUBLISH, topic) for topic in topics_of(NODE, ACK, DOWN))


def test_influxdb3_has_no_scoped_tokens_so_apply_finds_grafanas_in_the_secret() -> None:
    resources = build(K8S / "overlays/influxdb3")
    config = tomllib.loads(resources["ConfigMap", "cloud-config"]["data"]["cloud.toml"])
    pod = resources["CronJob", "apply"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    places = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    volume = next(volume for volume in pod["volumes"] if volume["name"] == places[config["secrets"]])
    assert volume["secret"]["secretName"] == "swapline-cloud"


def test_access_list_has_the_same_lines_as_the_one_of_one_host(rules: list[Rule]) -> None:
    text = (K8S.parent / "mosquitto" / "swapline.acl").read_text()
    actions = {"write": PUBLISH, "read": SUBSCRIBE}
    wanted = {(actions[how], topic) for how, topic in re.findall(r"^pattern (\w+) (.+)$", text, re.MULTILINE)}
    ours = {(rule.action, topic) for rule in rules if rule.user is None for topic in rule.topics if topic != "#"}
    assert {(action, topic.replace("${username}", "%u")) for action, topic in ours} == wanted


def test_gateway_subscribes_to_what_it_asks_for_and_acknowledges(rules: list[Rule], tmp_path: Path) -> None:
    mqtt = gateway_of("base", tmp_path).mqtt
    for name in (*uplink.live_filters(mqtt), *uplink.backlog_filters(mqtt)):
        # EMQX asks the list for the topic of a shared subscription without `$share/<group>/`.
        assert may(rules, "gateway", SUBSCRIBE, re.sub(r"^\$share/[^/]+/", "", name)), name
    assert may(rules, "gateway", PUBLISH, format_topic("demo", "van-001", ACK))
