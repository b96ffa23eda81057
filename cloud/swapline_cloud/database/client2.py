"""What is asked of an InfluxDB 2.x that is set up, through `influxdb-client`: plain records, our own errors.

Ids are looked up when something is done, not when it is planned: a bucket that a plan makes has none yet.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import influxdb_client
import urllib3
from influxdb_client.rest import ApiException

from swapline_cloud.config import DatabaseConfig
from swapline_gateway.error import AccessError, GatewayError, UnavailableError, reason

_PAGE = 100
_library: Any = influxdb_client  # few of its calls have types
Grant = tuple[str, str]  # "read" or "write", and the name of a bucket


class Bucket(NamedTuple):
    """A bucket. `seconds` 0 is for ever."""

    id: str
    name: str
    seconds: int
    shard_s: int


class Token(NamedTuple):
    """An authorization, without the token itself: newer servers do not tell it again."""

    id: str
    description: str
    grants: frozenset[Grant]
    is_active: bool


class Mapping(NamedTuple):
    """A DBRP mapping: as which database and policy InfluxQL finds a bucket."""

    id: str
    policy: str
    bucket_id: str
    is_default: bool


class Task(NamedTuple):
    """A task."""

    id: str
    name: str
    flux: str
    is_active: bool


class Influxdb2Client:
    """See the module's header. Its methods raise `GatewayError`."""

    def __init__(self, config: DatabaseConfig, *, token: str | None = None) -> None:
        self._url = config.url.rstrip("/")
        self._organisation = config.organisation
        if token is None:
            token = config.token.get_secret_value() if config.token else ""
        self._client = _library.InfluxDBClient(
            url=self._url, token=token, org=config.organisation, timeout=round(config.timeout_s * 1000), retries=False
        )
        self._mappings = _library.DBRPsService(self._client.api_client)
        self._buckets = _library.BucketsService(self._client.api_client)
        self._set_up = _library.SetupService(self._client.api_client)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            raise self._error(error) from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise UnavailableError(f"{self._url} does not answer as an InfluxDB 2.x: {reason(error)}.") from error

    def _error(self, error: ApiException) -> GatewayError:
        said = getattr(error, "message", None) or error.reason
        if error.status in (401, 403):
            return AccessError(f"{self._url} refuses database.token: {said}.")
        if error.status == 0 or error.status >= 500:
            return UnavailableError(f"{self._url} answers {error.status}: {said}.")
        if "{" not in str(error.body):  # a page for people
            return UnavailableError(f"{self._url} answers {error.status}, but not as an InfluxDB 2.x.")
        return GatewayError(f"{self._url} answers {error.status}: {said}.")

    def is_fresh(self) -> bool:
        """Say whether nobody has set the server up yet."""
        with self._speaking():
            return bool(self._set_up.get_setup().allowed)

    def set_up(self, *, username: str, password: str, token: str, bucket: Bucket) -> None:
        """Make the first user, the organisation and the first bucket; the user's token is the configuration's."""
        request = _library.OnboardingRequest(
            username=username,
            password=password,
            token=token,
            org=self._organisation,
            bucket=bucket.name,
            retention_period_seconds=bucket.seconds,
        )
        with self._speaking():
            self._set_up.post_setup(request)

    def is_let_in(self) -> bool:
        """Say whether the server knows the token, whatever it may do."""
        try:
            with self._speaking():
                self._buckets.get_buckets(limit=1)
        except AccessError as error:
            cause = error.__cause__
            return isinstance(cause, ApiException) and cause.status == 403
        except UnavailableError:
            raise
        except GatewayError:
            return True
        return True

    def organisation_id(self) -> str | None:
        """Return the organisation's id, None if there is none of that name."""
        with self._speaking():
            try:
                found = self._client.organizations_api().find_organizations(org=self._organisation)
            except ApiException as error:
                if error.status == 404:
                    return None
                raise
        return next((one.id for one in found if one.name == self._organisation), None)

    def make_organisation(self) -> None:
        """Make the organisation."""
        with self._speaking():
            self._client.organizations_api().create_organization(name=self._organisation)

    def _organisation_id(self) -> str:
        found = self.organisation_id()
        if found is None:
            raise GatewayError(f"{self._url} has no organisation {self._organisation!r}.")
        return found

    def buckets(self) -> dict[str, Bucket]:
        """Return the organisation's buckets by name."""
        with self._speaking():
            ask = partial(self._buckets.get_buckets, org_id=self._organisation_id())
            return {one.name: _bucket(one) for one in _all(lambda **page: ask(**page).buckets)}

    def make_bucket(self, bucket: Bucket) -> None:
        """Make a bucket; its id is the server's choice."""
        rule = _library.BucketRetentionRules(
            type="expire", every_seconds=bucket.seconds, shard_group_duration_seconds=bucket.shard_s
        )
        request = _library.PostBucketRequest(org_id=self._organisation_id(), name=bucket.name, retention_rules=[rule])
        with self._speaking():
            self._buckets.post_buckets(request)

    def keep_bucket(self, bucket: Bucket) -> None:
        """Set how long a bucket keeps its rows, and in what shards."""
        rule = _library.PatchRetentionRule(
            type="expire", every_seconds=bucket.seconds, shard_group_duration_seconds=bucket.shard_s
        )
        bucket_id = self._bucket_ids()[bucket.name]
        with self._speaking():
            self._buckets.patch_buckets_id(bucket_id, _library.PatchBucketRequest(retention_rules=[rule]))

    def _bucket_ids(self) -> dict[str, str]:
        return {name: bucket.id for name, bucket in self.buckets().items()}

    def mappings(self, database: str) -> list[Mapping]:
        """Return the mappings of a database, without those that the server invents."""
        with self._speaking():
            found = self._mappings.get_dbr_ps(org_id=self._organisation_id(), db=database).content or []
        return [
            Mapping(one.id, one.retention_policy, one.bucket_id, bool(one.default))
            for one in found
            if one.database == database and not one.virtual
        ]

    def make_mapping(self, database: str, policy: str, bucket: str, *, is_default: bool) -> None:
        """Let InfluxQL find a bucket as a policy of a database."""
        request = _library.DBRPCreate(
            org_id=self._organisation_id(),
            bucket_id=self._bucket_ids()[bucket],
            database=database,
            retention_policy=policy,
            default=is_default,
        )
        with self._speaking():
            self._mappings.post_dbrp(request)

    def make_default(self, mapping: Mapping) -> None:
        """Make a mapping the one that counts where a question names no policy."""
        with self._speaking():
            request = _library.DBRPUpdate(retention_policy=mapping.policy, default=True)
            self._mappings.patch_dbrpid(mapping.id, request, org_id=self._organisation_id())

    def drop_mapping(self, mapping: Mapping) -> None:
        """Forget a mapping; the bucket stays."""
        with self._speaking():
            self._mappings.delete_dbrpid(mapping.id, org_id=self._organisation_id())

    def tokens(self) -> list[Token]:
        """Return the organisation's authorizations. A grant on a bucket that is gone, or on anything else, its id."""
        names = {bucket.id: name for name, bucket in self.buckets().items()}
        with self._speaking():
            found = self._client.authorizations_api().find_authorizations(org_id=self._organisation_id())
        return [_token(one, names) for one in found]

    def make_token(self, description: str, grants: frozenset[Grant]) -> str:
        """Make an authorization, and return its token."""
        organisation_id, ids = self._organisation_id(), self._bucket_ids()
        permissions = [
            _library.Permission(action, _library.PermissionResource("buckets", id=ids[bucket], org_id=organisation_id))
            for action, bucket in sorted(grants)
        ]
        wanted = _library.Authorization(org_id=organisation_id, permissions=permissions, description=description)
        with self._speaking():
            made = self._client.authorizations_api().create_authorization(authorization=wanted)
        return str(made.token)

    def drop_token(self, token: Token) -> None:
        """Make a token worth nothing."""
        with self._speaking():
            self._client.authorizations_api().delete_authorization(token.id)

    def tasks(self) -> list[Task]:
        """Return the organisation's tasks."""
        with self._speaking():
            ask = partial(self._client.tasks_api().find_tasks, org_id=self._organisation_id())
            return [Task(one.id, one.name, one.flux, one.status == "active") for one in _all(ask)]

    def make_task(self, flux: str, description: str) -> None:
        """Make a task; its name and its times are in the script."""
        request = _library.TaskCreateRequest(
            org_id=self._organisation_id(), flux=flux, description=description, status="active"
        )
        with self._speaking():
            self._client.tasks_api().create_task(task_create_request=request)

    def change_task(self, task: Task, flux: str) -> None:
        """Give a task another script, and let it run."""
        request = _library.TaskUpdateRequest(flux=flux, status="active")
        with self._speaking():
            self._client.tasks_api().update_task_request(task.id, request)

    def drop_task(self, task: Task) -> None:
        """Delete a task."""
        with self._speaking():
            self._client.tasks_api().delete_task(task.id)

    def values(self, flux: str) -> list[Any]:
        """Return the values that a script answers."""
        with self._speaking():
            tables = self._client.query_api().query(flux, org=self._organisation)
            return [record.get_value() for table in tables for record in table.records]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _all(ask: Callable[..., list[Any]]) -> Iterator[Any]:
    """Yield everything that a server tells by pages."""
    page = ask(limit=_PAGE)
    yield from page
    while len(page) == _PAGE:
        page = ask(limit=_PAGE, after=page[-1].id)
        yield from page


def _bucket(one: Any) -> Bucket:
    rules: Sequence[Any] = one.retention_rules or []
    rule = rules[0] if rules else None
    return Bucket(
        one.id,
        one.name,
        (rule.every_seconds or 0) if rule else 0,
        (rule.shard_group_duration_seconds or 0) if rule else 0,
    )


def _token(one: Any, names: dict[str, str]) -> Token:
    grants = frozenset(
        (permission.action, _resource(permission.resource, names)) for permission in one.permissions or []
    )
    return Token(one.id, one.description or "", grants, one.status == "active")


def _resource(resource: Any, names: dict[str, str]) -> str:
    if resource.type != "buckets" or resource.id is None:
        return f"all {resource.type}" if resource.id is None else f"{resource.type} {resource.id}"
    return names.get(resource.id, f"bucket {resource.id}")
