"""The gateway's configuration: one TOML file, typed, checked at once.

`load` is the only reader. A wrong file gives a `ConfigurationError` that names file, key, value and what is allowed.
Relative paths count from the folder of the file.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from swapline_wire.topic import is_name

from . import secret_file
from .error import ConfigurationError

Port = Annotated[int, Field(ge=1, le=65535)]
Text = Annotated[str, Field(min_length=1)]


def _check_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        is_good = is_good and parts.port != 0  # raises for what is no port
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError("allowed: http://host:port or https://host:port, as in 'http://127.0.0.1:8086'")
    return value


Url = Annotated[str, AfterValidator(_check_url)]
Whole = TypeVar("Whole", bound=BaseModel)


class Section(BaseModel):
    """A table of the file: frozen, and no key that we do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsConfig(Section):
    """TLS to the broker. Without `ca` the system's certificates count; certificate and key are the client's own."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class MqttConfig(Section):
    """The broker. With `share_group` any number of gateways divide the fleet's messages among themselves."""

    host: Text = "127.0.0.1"
    port: Port = 1883
    username: str | None = None
    password: SecretStr | None = None
    tls: TlsConfig | None = None
    fleet: str = "+"
    share_group: str | None = None
    client_id: Text | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    backoff_s_max: Annotated[float, Field(ge=0.1, le=600)] = 30.0
    # 16 MiB hold the unacknowledged windows of a thousand nodes; beyond that the broker has to wait.
    inbox_bytes_max: Annotated[int, Field(ge=65536)] = 16 << 20

    @field_validator("fleet")
    @classmethod
    def _is_fleet(cls, value: str) -> str:
        if value != "+" and not is_name(value):
            raise ValueError("allowed: '+' for all fleets, or 1 to 32 letters, digits, '_', '-' and '.'")
        return value

    @field_validator("share_group")
    @classmethod
    def _is_group(cls, value: str | None) -> str | None:
        if value is not None and not is_name(value):
            raise ValueError("allowed: 1 to 32 letters, digits, '_', '-' and '.'")
        return value


class SpoolConfig(Section):
    """Where frames wait for the database. At `limit_bytes` of frames the gateway stops acknowledging."""

    path: Path = Path("spool.sqlite")
    limit_bytes: Annotated[int, Field(ge=65536)] = 4_000_000_000
    # All nodes together; a node's own share is in [quota].
    quarantine_bytes_max: Annotated[int, Field(ge=65536)] = 256 << 20


class DuckdbConfig(Section):
    """The embedded database: one file, no server."""

    type: Literal["duckdb"] = "duckdb"
    path: Path = Path("swapline.duckdb")
    memory_bytes_max: Annotated[int, Field(ge=64 << 20)] = 1 << 30
    thread_count: Annotated[int, Field(ge=1, le=64)] = 2


Name = Annotated[str, Field(pattern=r'^[^"\\]+$')]  # as a statement may have it between quotes


class Influxdb1Reader(Section):
    """As whom, and under which names, stored rows are asked for. What it does not say is as the sink has it.

    `policy`: the one that has rows as they came, where that is not the database's default.
    """

    username: Text | None = None
    password: SecretStr | None = None
    database: Name | None = None
    policy: Name | None = None

    @field_validator("password")
    @classmethod
    def _is_somebodys(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and not info.data.get("username"):
            raise ValueError("it goes with a username of its own")
        return value


class Influxdb2Reader(Section):
    """The same for 2.x. For 3.x, where a policy is a database of its own (`swapline/raw`), it needs `policy`."""

    token: SecretStr | None = None
    database: Name | None = None
    policy: Name | None = None


class Influxdb1Config(Section):
    """InfluxDB 1.x, what Debian and Raspberry Pi OS ship.

    `forever`: the retention policy for what happens once and what is derived; else it goes where everything goes.
    """

    type: Literal["influxdb1"]
    url: Url
    database: Name = "swapline"
    forever: Text | None = None
    username: str | None = None
    password: SecretStr | None = None
    reader: Influxdb1Reader = Influxdb1Reader()
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0

    @property
    def lasting_policy(self) -> str | None:
        """Return the policy by which InfluxQL finds what is kept for ever; None: where everything is."""
        return self.forever


class Influxdb2Config(Section):
    """InfluxDB 2.x, and whatever else answers its write call (3.x, VictoriaMetrics).

    `forever_bucket`: the bucket for what happens once and what is derived; else it goes where everything goes.
    `forever_policy`: as which policy the DBRP mapping of the database `bucket` (or `reader.database`) shows that bucket
    to InfluxQL.
    """

    type: Literal["influxdb2"]
    url: Url
    org: Text = "swapline"
    bucket: Text = "swapline"
    forever_bucket: Text | None = None
    forever_policy: Text = "forever"
    token: SecretStr = SecretStr("")
    reader: Influxdb2Reader = Influxdb2Reader()
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0

    @property
    def lasting_policy(self) -> str | None:
        """Return the policy by which InfluxQL finds what is kept for ever; None: where everything is."""
        return self.forever_policy if self.forever_bucket else None


SinkConfig = Annotated[DuckdbConfig | Influxdb1Config | Influxdb2Config, Field(discriminator="type")]


class HttpConfig(Section):
    """Health, metrics and the console. Port 0 takes a free one.

    `names`: under which people reach the pages, beside the machine's own: those of a proxy.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    console: bool = True
    names: tuple[str, ...] = ()


class QuotaConfig(Section):
    """What one node may use at most; what exceeds it is not acknowledged and is counted.

    A node that drains its backlog at its default of 200 frames/s sends about 100 kB/s. One with every row of five slots
    kept makes 0.2 GB a day, and after a week without a link it brings what its journal holds, some MB, at once.
    """

    frames_per_s: Annotated[float, Field(gt=0)] = 2000.0
    bytes_per_s: Annotated[float, Field(gt=0)] = 2_000_000.0
    bytes_per_day: Annotated[int, Field(ge=65536)] = 1_000_000_000
    burst_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    quarantine_bytes: Annotated[int, Field(ge=4096)] = 16 << 20
    nodes_max: Annotated[int, Field(ge=1)] = 100_000


class StateConfig(Section):
    """The retained `state/...` topics: at most one message a topic in `interval_s`."""

    publish: bool = True
    interval_s: Annotated[float, Field(ge=0.05, le=3600)] = 1.0


class BatteryConfig(Section):
    """The battery's books: who held which module, passports, early warnings.

    `share`: of one core, at most, while there is much to derive. `settle_s`: after a swap, and where several gateways
    may write to one database, hours are derived once more so much later.
    """

    keep: bool = True
    share: Annotated[float, Field(ge=0.05, le=1)] = 0.5
    settle_s: Annotated[float, Field(ge=1, le=3600)] = 120.0


class VitalsConfig(Section):
    """What the gateway says about itself, to an InfluxDB and in `/metrics`.

    `name`: what it is called there, where several write to one database; the machine's own without it. `disks`: folders
    of which it says how full their disks are, beside the spool's.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    interval_s: Annotated[float, Field(ge=0.1, le=3600)] = 15.0
    disks: tuple[Path, ...] = ()


Degrees = Annotated[float, Field(ge=-180, le=180)]


class OutlookConfig(Section):
    """What comes next for each van: energy left, range, way to the nearest station.

    A van is low below `low_pct`, or when its range is less than `reserve_factor` times the way to its nearest station:
    traffic, cold and a closed road must still leave it enough. Ways are as the crow flies times `detour_factor`, which
    is what streets of towns add to it, 1.2 to 1.4. `stations`: name (or `fleet/name`) -> latitude and longitude, where
    swaps do not tell them.
    """

    keep: bool = True
    interval_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    rated_kwh_per_km: Annotated[float, Field(gt=0, le=5)] = 0.2
    rated_module_kwh: Annotated[float, Field(gt=0, le=1000)] = 26.5
    detour_factor: Annotated[float, Field(ge=1, le=5)] = 1.3
    reserve_factor: Annotated[float, Field(ge=1, le=10)] = 1.3
    low_pct: Annotated[float, Field(ge=0, le=100)] = 20.0
    ready_pct: Annotated[float, Field(ge=0, le=100)] = 90.0
    stations: dict[str, tuple[Annotated[float, Field(ge=-90, le=90)], Degrees]] = {}


class LogConfig(Section):
    """`auto` writes for people on a terminal and JSON elsewhere."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class GatewayConfig(Section):
    """The whole file."""

    mqtt: MqttConfig = MqttConfig()
    spool: SpoolConfig = SpoolConfig()
    sink: SinkConfig = DuckdbConfig()
    http: HttpConfig | None = None
    quota: QuotaConfig = QuotaConfig()
    state: StateConfig = StateConfig()
    battery: BatteryConfig = BatteryConfig()
    vitals: VitalsConfig = VitalsConfig()
    outlook: OutlookConfig = OutlookConfig()
    log: LogConfig = LogConfig()


def load(path: Path) -> GatewayConfig:
    """Read and check the file. Raises `ConfigurationError` naming file, key, value and what is allowed."""
    return parse(read(path), source=str(path), folder=path.parent)


def read(path: Path) -> dict[str, Any]:
    """Return what a TOML file says, with the secrets that it has in files (see `secret_file`).

    Raises `ConfigurationError` if something cannot be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}.") from error
    return secret_file.fill_in(raw, path.parent, source=str(path))


def parse(raw: dict[str, Any], *, source: str, folder: Path) -> GatewayConfig:
    """Check what a file said. `source` names it in errors; relative paths are taken from `folder`."""
    if isinstance(raw.get("sink"), dict):
        raw = {**raw, "sink": {"type": "duckdb", **raw["sink"]}}
    return _anchor_paths(check(GatewayConfig, raw, source=source), folder)


def check(root: type[Whole], raw: dict[str, Any], *, source: str) -> Whole:
    """Return a whole file as its model. Raises `ConfigurationError` with one sentence for each key that is wrong."""
    try:
        return root.model_validate(raw)
    except pydantic.ValidationError as error:
        sentences = [_describe(item, root) for item in error.errors(include_url=False)]
        raise ConfigurationError("\n".join(f"{source}: {sentence}" for sentence in sentences)) from error


def _anchor_paths(config: GatewayConfig, folder: Path) -> GatewayConfig:
    changes: dict[str, Any] = {"spool": config.spool.model_copy(update={"path": folder / config.spool.path})}
    disks = tuple(folder / path for path in config.vitals.disks)
    changes["vitals"] = config.vitals.model_copy(update={"disks": disks})
    if isinstance(config.sink, DuckdbConfig):
        changes["sink"] = config.sink.model_copy(update={"path": folder / config.sink.path})
    if config.mqtt.tls is not None:
        files = {name: folder / file for name, file in config.mqtt.tls if file is not None}
        changes["mqtt"] = config.mqtt.model_copy(update={"tls": config.mqtt.tls.model_copy(update=files)})
    return config.model_copy(update=changes)


def _describe(item: Any, root: type[BaseModel]) -> str:
    """Say in one sentence what is wrong with one key."""
    place = [str(part) for part in item["loc"]]
    if len(place) > 1 and place[0] == "sink":
        place.pop(1)  # pydantic names the chosen type of sink there, which the file does not
    key = ".".join(place)
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggest(item['loc'], root)}."
    if item["type"] == "missing":
        return f"{key}: is missing."
    if item["type"] == "union_tag_invalid":
        return f"{key}.type: {item['ctx']['tag']!r} is not allowed; allowed: {item['ctx']['expected_tags']}."
    if item["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{key}: {item['input']!r} is not allowed; it is a table: [{key}]."
    value = "***" if place[-1] in secret_file.SECRETS else repr(item["input"])
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {value} is not allowed; {message[0].lower()}{message[1:]}."


def _suggest(loc: tuple[Any, ...], root: type[BaseModel]) -> str:
    known = list(_known_keys([str(part) for part in loc[:-1]], root))
    near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known here: {', '.join(known)})"


def _known_keys(place: list[str], root: type[BaseModel]) -> list[str]:
    model = root
    for index, part in enumerate(place):
        if index == 1 and place[0] == "sink":
            continue  # the type of sink, already taken into account below
        if part == "sink":
            chosen = place[1] if len(place) > 1 else "duckdb"
            sinks = (DuckdbConfig, Influxdb1Config, Influxdb2Config)
            model = next(sink for sink in sinks if get_args(sink.model_fields["type"].annotation)[0] == chosen)
            continue
        annotation = model.model_fields[part].annotation
        options = [annotation, *get_args(annotation)]
        model = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(model.model_fields)
