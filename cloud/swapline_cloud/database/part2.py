"""InfluxDB 2.x as it should be: organisation, buckets, DBRP mappings, tokens and tasks.

Compared and changed are the three buckets, the mappings of the database's three policies, the authorizations that are
described as ours, and the tasks whose names begin with `continuous.OWN`. Everything else stays.

Tried against a server that answers as the documentation says (`tests/cloud/fake_influxdb2.py`), not against a live one.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from swapline_cloud.config import CloudConfig
from swapline_cloud.plan import CREATE, DELETE, UPDATE, Change, LostSecretError, diff_of
from swapline_cloud.rollup import LEVELS, Level
from swapline_gateway.error import ConfigurationError

from . import before, continuous, flux, secret
from .client2 import Bucket, Grant, Influxdb2Client, Mapping, Task, Token
from .policy import POLICIES, Policy, describe, losses

DESCRIPTIONS = {role: f"swapline {role}" for role in secret.ROLES}
READ, WRITE = "read", "write"
ACTIONS = {secret.READER: READ, secret.GATEWAY: WRITE, secret.GRAFANA: READ}
ADMINISTRATOR = "admin"
ADMINISTRATOR_FILE = "admin.password"


class Influxdb2Part:
    """See the module's header."""

    name = "InfluxDB 2.x"

    def __init__(self, config: CloudConfig, *, levels: tuple[Level, ...] = LEVELS) -> None:
        self._config = config.database
        self._database = config.database.database
        self._levels = levels
        self._secrets = secret.SecretFiles(config.secrets)
        self._client = Influxdb2Client(config.database)

    def changes(self) -> Sequence[Change]:
        """See `plan.Part.changes`."""
        if not self._config.token:
            raise ConfigurationError("database.token is missing: InfluxDB 2.x needs a token that may set it up.")
        is_fresh = self._client.is_fresh()
        if is_fresh:
            return [self._first_set_up(), *self._all(has_organisation=False)]
        has_organisation = self._client.organisation_id() is not None
        first = [] if has_organisation else [self._organisation()]
        return [*first, *self._all(has_organisation=has_organisation)]

    def warnings(self) -> list[str]:
        """Return what is not as it should be and cannot be changed from here."""
        return []

    def _first_set_up(self) -> Change:
        name = self._config.username or ADMINISTRATOR
        where = "database.password" if self._config.password else str(self._secrets.file(ADMINISTRATOR_FILE))
        wanted = f"user {name}\npassword in {where}\ntoken as database.token\norganisation {self._config.organisation}"
        return Change(CREATE, "set-up", self._config.url, diff_of("", wanted), partial(self._set_up, name))

    def _set_up(self, name: str) -> None:
        password = self._config.password.get_secret_value() if self._config.password else None
        password = password or self._secrets.read(ADMINISTRATOR_FILE)
        if password is None:
            password = secret.make()
            self._secrets.write(ADMINISTRATOR_FILE, password)
        assert self._config.token is not None
        token = self._config.token.get_secret_value()
        self._client.set_up(username=name, password=password, token=token, bucket=self._wanted(POLICIES[0]))
        self._client.keep_bucket(self._wanted(POLICIES[0]))  # the set-up takes no length of shards

    def _organisation(self) -> Change:
        name = self._config.organisation
        return Change(CREATE, "organisation", name, diff_of("", name), self._client.make_organisation)

    def _all(self, *, has_organisation: bool) -> Iterator[Change]:
        buckets = self._client.buckets() if has_organisation else {}
        yield from self._buckets(buckets)
        yield from self._mappings(self._client.mappings(self._database) if has_organisation else [], buckets)
        tokens = self._client.tokens() if has_organisation else []
        for role in secret.ROLES:
            yield from self._token(role, [token for token in tokens if token.description == DESCRIPTIONS[role]])
        yield from self._tasks(self._client.tasks() if has_organisation else [])

    def _wanted(self, policy: Policy) -> Bucket:
        return Bucket("", policy.bucket(self._database), policy.seconds, policy.shard_s)

    def _buckets(self, found: dict[str, Bucket]) -> Iterator[Change]:
        for policy in POLICIES:
            wanted = self._wanted(policy)
            actual = found.get(wanted.name)
            text = describe(wanted.seconds, wanted.shard_s)
            if actual is None:
                do = partial(self._make_bucket, wanted)
                yield Change(CREATE, "bucket", wanted.name, diff_of("", text), do)
            elif actual._replace(id="") != wanted:
                lost = losses(actual.seconds, wanted.seconds)
                diff = diff_of(describe(actual.seconds, actual.shard_s), text) + lost
                waits = before.waiting(self._client, self._database, found) if lost and policy.is_default else ""
                do = partial(self._client.keep_bucket, wanted)
                yield Change(UPDATE, "bucket", wanted.name, diff, do, waits)

    def _make_bucket(self, bucket: Bucket) -> None:
        if bucket.name not in self._client.buckets():  # the first set-up makes one
            self._client.make_bucket(bucket)

    def _mappings(self, found: list[Mapping], buckets: dict[str, Bucket]) -> Iterator[Change]:
        names = {bucket.id: name for name, bucket in buckets.items()}
        by_policy = {mapping.policy: mapping for mapping in found}
        for policy in POLICIES:
            bucket = policy.bucket(self._database)
            actual = by_policy.get(policy.name)
            name = f"{self._database}.{policy.name}"
            make = partial(self._client.make_mapping, self._database, policy.name, bucket, is_default=policy.is_default)
            wanted = _mapping_text(bucket, policy.is_default)
            if actual is None:
                yield Change(CREATE, "DBRP mapping", name, diff_of("", wanted), make)
            elif names.get(actual.bucket_id) != bucket:
                is_at = names.get(actual.bucket_id, f"bucket {actual.bucket_id}, which is gone")
                diff = diff_of(_mapping_text(is_at, actual.is_default), wanted)
                yield Change(UPDATE, "DBRP mapping", name, diff, partial(self._map_anew, actual, make))
            elif policy.is_default and not actual.is_default:
                diff = diff_of(_mapping_text(bucket, is_default=False), wanted)
                yield Change(UPDATE, "DBRP mapping", name, diff, partial(self._client.make_default, actual))

    def _map_anew(self, mapping: Mapping, make: "partial[None]") -> None:
        self._client.drop_mapping(mapping)  # which bucket it names cannot be changed
        make()

    def _grants(self, role: str) -> frozenset[Grant]:
        return frozenset((ACTIONS[role], policy.bucket(self._database)) for policy in POLICIES)

    def _token(self, role: str, found: list[Token]) -> Iterator[Change]:
        wanted, description = self._grants(role), DESCRIPTIONS[role]
        file = self._secrets.file(f"{role}.token")
        text = f"{_grants_text(wanted)}\ntoken in {file}"
        if not found:
            yield Change(CREATE, "token", description, diff_of("", text), partial(self._make_token, role))
            return
        known = self._secrets.read(file.name)
        if known is None:
            raise LostSecretError(
                f"{self._config.url} has the token {description!r}, but {file} is not there. Put it back, or make a new"
                f" one with `swapline cloud apply --rotate {role}` and start what uses it again.",
                role,
            )
        actual = [one for token in found for one in _token_lines(token)]
        if not self._is_let_in(known):
            actual.append(f"another token than in {file}")
        elif len(found) == 1 and found[0].is_active and found[0].grants == wanted:
            return
        diff = diff_of("\n".join(actual), text)
        if role == secret.GATEWAY and any(action == READ for token in found for action, _ in token.grants):
            diff += f"\n{secret.NEEDS_READER}"
        diff += f"\n! {file} gets another token: start the {_user(role)} again"
        yield Change(UPDATE, "token", description, diff, partial(self.rotate, role))

    def _is_let_in(self, token: str) -> bool:
        client = Influxdb2Client(self._config, token=token)
        try:
            return client.is_let_in()
        finally:
            client.close()

    def _make_token(self, role: str) -> None:
        token = self._client.make_token(DESCRIPTIONS[role], self._grants(role))
        self._secrets.write(f"{role}.token", token)

    def rotate(self, role: str) -> None:
        """Make a new token, put it into its file, and make those before it worth nothing."""
        old = [token for token in self._client.tokens() if token.description == DESCRIPTIONS[role]]
        self._make_token(role)
        for token in old:
            self._client.drop_token(token)

    def _tasks(self, found: list[Task]) -> Iterator[Change]:
        wanted = flux.scripts(self._config.organisation, self._database, self._levels)
        seen: set[str] = set()
        for task in found:
            if task.name.startswith(continuous.OWN) and (task.name not in wanted or task.name in seen):
                diff = diff_of(task.flux, "")
                yield Change(DELETE, "task", task.name, diff, partial(self._client.drop_task, task))
            elif task.name in wanted:
                seen.add(task.name)
                yield from self._task(task, wanted[task.name])
        for name, script in wanted.items():
            if name not in seen:
                yield Change(CREATE, "task", name, diff_of("", script), partial(self._make_task, script))

    def _task(self, task: Task, script: str) -> Iterator[Change]:
        if task.is_active and flux.normalise(task.flux) == flux.normalise(script):
            return
        now = "" if task.is_active else "// inactive\n"
        diff = diff_of(now + task.flux, script)
        yield Change(UPDATE, "task", task.name, diff, partial(self._client.change_task, task, script))

    def _make_task(self, script: str) -> None:
        self._client.make_task(script, "roll-up by swapline: see docs/retention.md")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _mapping_text(bucket: str, is_default: bool) -> str:
    return f"bucket {bucket}\ndefault: {'yes' if is_default else 'no'}"


def _grants_text(grants: frozenset[Grant]) -> str:
    return "\n".join(f"{action} {bucket}" for action, bucket in sorted(grants)) or "nothing"


def _user(role: str) -> str:
    return secret.GATEWAY if role == secret.READER else role


def _token_lines(token: Token) -> list[str]:
    return [*_grants_text(token.grants).splitlines(), *([] if token.is_active else ["inactive"])]
