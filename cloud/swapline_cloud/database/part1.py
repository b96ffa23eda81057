"""InfluxDB 1.x as it should be: database, policies, continuous queries, users and what these may do.

Compared and changed are the database's three policies, the queries whose names begin with `continuous.OWN`, and the
users of `USERS`. Everything else on the server is somebody else's and stays.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from swapline_cloud.config import CloudConfig, DatabaseConfig
from swapline_cloud.plan import CREATE, DELETE, UPDATE, Change, LostSecretError, diff_of
from swapline_cloud.rollup import LEVELS, Level
from swapline_gateway.error import ConfigurationError
from swapline_gateway.influxql import identifier, text

from . import before, continuous, secret
from .client1 import AdminClient, NoAdministratorError
from .policy import POLICIES, Policy, describe, losses

USERS = {role: f"swapline_{role}" for role in secret.ROLES}
READ, WRITE, NOTHING = "READ", "WRITE", "NO PRIVILEGES"
PRIVILEGES = {secret.READER: READ, secret.GATEWAY: WRITE, secret.GRAFANA: READ}
_DURATION = re.compile(r"(\d+)(h|m|s)")
_UNIT_S = {"h": 3600, "m": 60, "s": 1}


class Influxdb1Part:
    """See the module's header."""

    name = "InfluxDB 1.x"

    def __init__(self, config: CloudConfig, *, levels: tuple[Level, ...] = LEVELS) -> None:
        self._config = config.database
        self._database = config.database.database
        self._levels = levels
        self._secrets = secret.SecretFiles(config.secrets)
        self._client = AdminClient(config.database)

    def changes(self) -> Sequence[Change]:
        """See `plan.Part.changes`."""
        try:
            databases = {row["name"] for row in self._client.rows("SHOW DATABASES")}
        except NoAdministratorError:
            return [self._administrator(), *self._all(has_database=False, has_users=False)]
        return list(self._all(has_database=self._database in databases, has_users=True))

    def warnings(self) -> list[str]:
        """See `plan.Part.warnings`."""
        return list(self._warnings())

    def _warnings(self) -> Iterator[str]:
        anybody = AdminClient(self._config, as_user=("", ""))
        try:
            if anybody.is_let_in():
                yield f"{self._config.url} lets in everybody: set auth-enabled = true in [http] of influxdb.conf."
        finally:
            anybody.close()
        with suppress(NoAdministratorError):  # of a server that is to be set up
            yield from before.left_behind(self._client, self._database)

    def _administrator(self) -> Change:
        name, password = self._config.username, self._config.password
        if not name or not password:
            raise ConfigurationError(
                f"{self._config.url} has no administrator yet: set database.username and database.password, and they"
                " become the first one."
            )
        create = f"CREATE USER {identifier(name)} WITH PASSWORD {text(password.get_secret_value())} WITH ALL PRIVILEGES"
        return Change(CREATE, "administrator", name, diff_of("", "may do everything"), self._run(create))

    def _all(self, *, has_database: bool, has_users: bool) -> Iterator[Change]:
        yield from self._policies(has_database)
        yield from self._queries(has_database)
        users = {row["user"]: row["admin"] for row in self._client.rows("SHOW USERS")} if has_users else {}
        for role in secret.ROLES:
            yield from self._user(role, users)

    def _policies(self, has_database: bool) -> Iterator[Change]:
        found = {}
        if has_database:
            rows = self._client.rows(f"SHOW RETENTION POLICIES ON {identifier(self._database)}")
            found = {row["name"]: row for row in rows}
        else:
            do = self._run(f"CREATE DATABASE {identifier(self._database)} WITH {terms(POLICIES[0])}")
            yield Change(CREATE, "database", self._database, diff_of("", _describe(POLICIES[0])), do)
        for policy in POLICIES:
            row = found.get(policy.name)
            if row is None:
                if has_database or not policy.is_default:  # the first one comes with the database
                    yield Change(
                        CREATE,
                        "retention policy",
                        policy.name,
                        diff_of("", _describe(policy)),
                        self._run(policy_statement("CREATE", self._database, policy)),
                    )
                continue
            seconds, shard_s = _seconds(row["duration"]), _seconds(row["shardGroupDuration"])
            is_default = row["default"] if policy.is_default else None  # another one's stays until ours takes it
            actual, wanted = describe(seconds, shard_s, is_default=is_default), _describe(policy)
            if actual != wanted:
                diff = diff_of(actual, wanted) + losses(seconds, policy.seconds)
                do = self._run(policy_statement("ALTER", self._database, policy))
                yield Change(UPDATE, "retention policy", policy.name, diff, do)

    def _queries(self, has_database: bool) -> Iterator[Change]:
        rows = self._client.rows("SHOW CONTINUOUS QUERIES") if has_database else []
        found = {row["name"]: row["query"] for row in rows if row["_series"] == self._database}
        wanted = continuous.statements(self._database, self._levels)
        for name in [name for name in found if name.startswith(continuous.OWN) and name not in wanted]:
            diff = diff_of(continuous.show(found[name]), "")
            yield Change(DELETE, "continuous query", name, diff, self._run(self._drop(name)))
        for name, statement in wanted.items():
            actual = found.get(name)
            if actual is None:
                diff = diff_of("", continuous.show(statement))
                yield Change(CREATE, "continuous query", name, diff, self._run(statement))
            elif continuous.normalise(actual) != continuous.normalise(statement):
                diff = diff_of(continuous.show(actual), continuous.show(statement))
                yield Change(UPDATE, "continuous query", name, diff, self._run(self._drop(name), statement))

    def _drop(self, name: str) -> str:
        return f"DROP CONTINUOUS QUERY {identifier(name)} ON {identifier(self._database)}"

    def _user(self, role: str, users: dict[str, bool]) -> Iterator[Change]:
        user = USERS[role]
        file = f"{role}.password"
        if user not in users:
            wanted = f"{PRIVILEGES[role]} on {self._database}\npassword in {self._secrets.file(file)}"
            yield Change(CREATE, "user", user, diff_of("", wanted), partial(self._create_user, role))
            return
        password = self._secrets.read(file)
        if password is None:
            raise LostSecretError(
                f"{self._config.url} has the user {user!r}, but {self._secrets.file(file)} is not there. Put it back,"
                f" or make a new one with `swapline cloud apply --rotate {role}` and start what uses it again.",
                role,
            )
        if users[user]:
            diff = diff_of("administrator: yes", "administrator: no")
            yield Change(UPDATE, "user", user, diff, self._run(f"REVOKE ALL PRIVILEGES FROM {identifier(user)}"))
        if not self._is_password(user, password):
            diff = diff_of("another password", f"the password in {self._secrets.file(file)}")
            yield Change(UPDATE, "user", user, diff, partial(self._set_password, user, password))
        yield from self._grant(role)

    def _grant(self, role: str) -> Iterator[Change]:
        user, wanted = USERS[role], PRIVILEGES[role]
        rows = self._client.rows(f"SHOW GRANTS FOR {identifier(user)}")
        actual = {row["database"]: row["privilege"] for row in rows}.get(self._database, NOTHING)
        if actual != wanted:
            diff = diff_of(f"{actual} on {self._database}", f"{wanted} on {self._database}")
            if role == secret.GATEWAY and actual != NOTHING:
                diff += f"\n{secret.NEEDS_READER}"
            yield Change(UPDATE, "grant", user, diff, self._run(grant_statement(self._config, role)))

    def _is_password(self, user: str, password: str) -> bool:
        client = AdminClient(self._config, as_user=(user, password))
        try:
            return client.is_let_in()
        finally:
            client.close()

    def _create_user(self, role: str) -> None:
        file = f"{role}.password"
        password = self._secrets.read(file)
        if password is None:
            password = secret.make()
            self._secrets.write(file, password)  # first: a user whose password nobody knows is of no use
        self._client.run(f"CREATE USER {identifier(USERS[role])} WITH PASSWORD {text(password)}")
        self._client.run(grant_statement(self._config, role))

    def _set_password(self, user: str, password: str) -> None:
        self._client.run(f"SET PASSWORD FOR {identifier(user)} = {text(password)}")

    def rotate(self, role: str) -> None:
        """Make a new password for a user that is there, and put it into its file."""
        password = secret.make()
        self._secrets.write(f"{role}.password", password)  # first: if the server fails now, `apply` mends it
        self._set_password(USERS[role], password)

    def _run(self, *statements: str) -> Callable[[], None]:
        def do() -> None:
            for statement in statements:
                self._client.run(statement)

        return do

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def terms(policy: Policy, *, named: bool = True) -> str:
    """Return a policy's settings as a statement says them; `named` where it comes with its database."""
    duration = "INF" if policy.days is None else f"{policy.days}d"
    name = f" NAME {identifier(policy.name)}" if named else ""
    return f"DURATION {duration} REPLICATION 1 SHARD DURATION {policy.shard_days}d{name}"


def policy_statement(verb: str, database: str, policy: Policy) -> str:
    """Return the statement that makes or alters a policy."""
    default = " DEFAULT" if policy.is_default else ""
    name = f"{identifier(policy.name)} ON {identifier(database)}"
    return f"{verb} RETENTION POLICY {name} {terms(policy, named=False)}{default}"


def grant_statement(config: DatabaseConfig, role: str) -> str:
    """Return the statement that lets a role do what it may."""
    return f"GRANT {PRIVILEGES[role]} ON {identifier(config.database)} TO {identifier(USERS[role])}"


def _describe(policy: Policy) -> str:
    return describe(policy.seconds, policy.shard_s, is_default=True if policy.is_default else None)


def _seconds(duration: str) -> int:
    """Return the seconds of a duration as Go writes it: `720h0m0s`."""
    return sum(int(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(duration))
