"""The data source: InfluxDB, asked in InfluxQL, with a secret that may only read."""

from collections.abc import Iterator
from typing import Any

from swapline_cloud.board.pen import DATA_SOURCE_TYPE, DATA_SOURCE_UID
from swapline_cloud.config import CloudConfig
from swapline_cloud.database import access
from swapline_cloud.database.access import Credentials
from swapline_cloud.database.part1 import USERS
from swapline_cloud.database.secret import GRAFANA
from swapline_cloud.plan import CREATE, UPDATE, Change, diff_of
from swapline_gateway.error import ConfigurationError

from .compare import as_text, merge, seen
from .connection import Connection
from .secret_mark import is_marked, mark

NAME = "swapline"
MARK = "swaplineSecret"  # see `secret_mark`
_READ = "read the data source"
SERIES_MAX = 10_000  # of one answer; Grafana's own 1000 are too few for every van of a fleet in one chart
_NONE, _AS_WANTED, _OTHER, _LATER = "none", "as wanted", "another one", "as the database's part makes it"


class Source:
    """What the data source should be, and as whom Grafana asks the database."""

    def __init__(self, config: CloudConfig) -> None:
        self._config = config
        self._database = config.database
        self._url = (config.grafana and config.grafana.database_url) or config.database.url
        self._has_token = config.database.version > 1

    def credentials(self) -> Credentials | None:
        """Return as whom Grafana asks, None before the database's part has made it."""
        return access.credentials(self._config, GRAFANA)

    def needed_credentials(self) -> Credentials:
        """Return as whom Grafana asks. Raises `ConfigurationError` if nobody has made that yet."""
        found = self.credentials()
        if found is None:
            file = self._config.secrets / access.file_of(self._config, GRAFANA)
            raise ConfigurationError(
                f"{file} is missing: it is what Grafana shows the database. Run `swapline cloud apply --only database`,"
                " or put it there."
            )
        return found

    def settings(self) -> dict[str, Any]:
        """Return all but secrets, as the HTTP API and the provisioning files have it."""
        more: dict[str, Any] = {"httpHeaderName1": "Authorization"} if self._has_token else {}
        return {
            "uid": DATA_SOURCE_UID,
            "name": NAME,
            "type": DATA_SOURCE_TYPE,
            "access": "proxy",
            "url": self._url,
            "user": "" if self._has_token else USERS[GRAFANA],
            "jsonData": {
                "version": "InfluxQL",
                "dbName": self._database.database,
                "httpMode": "POST",  # a question of a board is longer than an address may be
                "timeInterval": "10s",
                "maxSeries": SERIES_MAX,
                **more,
            },
        }

    def secure(self, secret: str) -> dict[str, str]:
        """Return what Grafana keeps encrypted."""
        return {self.secure_key: f"Token {secret}" if self._has_token else secret}

    @property
    def secure_key(self) -> str:
        """Return under which name Grafana keeps the secret."""
        return "httpHeaderValue1" if self._has_token else "password"


def changes(connection: Connection, config: CloudConfig) -> Iterator[Change]:
    """Yield what is to be done about the data source."""
    source, api = Source(config), connection.api.datasource
    actual = connection.find(_READ, api.get_datasource_by_uid, DATA_SOURCE_UID)
    wanted = source.settings()
    now, later = _states(source, actual)
    before = "" if actual is None else f"{as_text(seen(actual, wanted))}\nsecret: {now}"
    after = f"{as_text(wanted)}\nsecret: {later}"
    if before != after:
        action = CREATE if actual is None else UPDATE
        yield Change(action, "data source", DATA_SOURCE_UID, diff_of(before, after), lambda: _save(connection, source))


def _states(source: Source, actual: dict[str, Any] | None) -> tuple[str, str]:
    """Return how Grafana's secret is and how it should be. Without one of our own nothing can be compared."""
    ours, is_there = source.credentials(), _has_secret(source, actual)
    if ours is None:
        return (_AS_WANTED, _AS_WANTED) if is_there else (_NONE, _LATER)
    if not is_there:
        return _NONE, _AS_WANTED
    known = str(((actual or {}).get("jsonData") or {}).get(MARK, ""))
    return _AS_WANTED if is_marked(ours.secret, known) else _OTHER, _AS_WANTED


def _has_secret(source: Source, actual: dict[str, Any] | None) -> bool:
    return bool(actual and (actual.get("secureJsonFields") or {}).get(source.secure_key))


def _save(connection: Connection, source: Source) -> None:
    """Create or update the data source: what is there and the secret may have changed since the plan was made."""
    api = connection.api.datasource
    actual = connection.find(_READ, api.get_datasource_by_uid, DATA_SOURCE_UID)
    ours = source.credentials() if _has_secret(source, actual) else source.needed_credentials()
    body = merge(actual or {}, source.settings())
    if ours is not None:  # else Grafana keeps the one it has
        body["jsonData"][MARK] = mark(ours.secret)
        body["secureJsonData"] = source.secure(ours.secret)
    if actual is None:
        connection.ask("create the data source", api.create_datasource, body)
    else:
        connection.ask("change the data source", api.update_datasource_by_uid, DATA_SOURCE_UID, body)
