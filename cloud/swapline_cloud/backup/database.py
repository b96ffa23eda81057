"""The rows of an InfluxDB into Parquet files and back: `<policy>/<measurement>.parquet`."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from swapline_cloud.config import DatabaseConfig
from swapline_cloud.database.client1 import AdminClient
from swapline_cloud.database.client2 import Bucket, Influxdb2Client
from swapline_cloud.database.part1 import policy_statement, terms
from swapline_cloud.database.policy import POLICIES
from swapline_cloud.database.rows import asking
from swapline_gateway.error import GatewayError, SinkBusyError, StorageError
from swapline_gateway.influxql import InfluxqlClient, identifier

from . import reading
from .measurement import Measurement, find, from_schema
from .progress import Progress
from .writer import Writer, batch_rows

NAMES = tuple(policy.name for policy in POLICIES)
COMPRESSION = "zstd"
Table = dict[str, Any]  # of the manifest


def dump(config: DatabaseConfig, folder: Path, policies: Sequence[str] = NAMES) -> Iterator[Table]:
    """Write each measurement into a file of its own below `folder`, and yield what the manifest says of it.

    Raises `GatewayError` if the database does not answer, `OSError` if the disk does not take it.
    """
    with closing(InfluxqlClient(asking(config))) as client:
        try:
            found = find(client, policies)
        except SinkBusyError as error:
            raise reading.sort_error(error) from error
        progress = Progress(sum(reading.count(client, one) for one in found))
        for measurement in found:
            said = _dump(client, measurement, folder, progress)
            if said is not None:
                yield said
        progress.end()


def _dump(client: InfluxqlClient, measurement: Measurement, folder: Path, progress: Progress) -> Table | None:
    span = reading.span_of(client, measurement)
    if span is None:
        return None
    path = folder / measurement.policy / f"{quote(measurement.name, safe='')}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    row_count = 0
    with pq.ParquetWriter(path, measurement.schema(), compression=COMPRESSION) as writer:
        for table in reading.rows(client, measurement, span):
            before = path.stat().st_size
            writer.write_table(table)
            row_count += table.num_rows
            progress.add(measurement.label, rows=table.num_rows, size_bytes=path.stat().st_size - before)
    said: Table = {"policy": measurement.policy, "measurement": measurement.name, "rows": row_count}
    said |= {"file": path.relative_to(folder).as_posix(), "first_ns": span[0], "last_ns": span[1] - 1}
    return said | ({"mixed_types": list(measurement.mixed)} if measurement.mixed else {})


class Loader:
    """Writes files of a backup into a database. Its methods raise `GatewayError`."""

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config
        self._client = InfluxqlClient(asking(config))
        self._writer = Writer(config)

    def prepare(self) -> None:
        """Make the database and its policies where they are not there; of 3.x `apply` does that."""
        if self._config.version == 1:
            self._prepare_policies()
        elif self._config.version == 2:
            self._prepare_buckets()

    def _prepare_policies(self) -> None:
        name = self._config.database
        with closing(AdminClient(self._config)) as server:
            if name not in {row["name"] for row in server.rows("SHOW DATABASES")}:
                server.run(f"CREATE DATABASE {identifier(name)} WITH {terms(POLICIES[0])}")
            there = {row["name"] for row in server.rows(f"SHOW RETENTION POLICIES ON {identifier(name)}")}
            for policy in POLICIES:
                if policy.name not in there:
                    server.run(policy_statement("CREATE", name, policy))

    def _prepare_buckets(self) -> None:
        name = self._config.database
        with closing(Influxdb2Client(self._config)) as server:
            there, mapped = server.buckets(), {mapping.policy for mapping in server.mappings(name)}
            for policy in POLICIES:
                bucket = policy.bucket(name)
                if bucket not in there:
                    server.make_bucket(Bucket("", bucket, policy.seconds, policy.shard_s))
                if policy.name not in mapped:
                    server.make_mapping(name, policy.name, bucket, is_default=policy.is_default)

    def measurements(self) -> list[str]:
        """Return what the database holds rows of, as `policy.measurement`."""
        try:
            return [one.label for one in find(self._client, NAMES)]
        except SinkBusyError as error:
            if "database not found" in str(error):
                return []
            raise reading.sort_error(error) from error

    def count(self, said: Table) -> int:
        """Read a measurement whole, and return how many rows the database has of it."""
        try:
            known = find(self._client, [said["policy"]])
        except SinkBusyError as error:
            raise reading.sort_error(error) from error
        for measurement in known:
            if measurement.name == said["measurement"]:
                span = reading.span_of(self._client, measurement)
                return sum(table.num_rows for table in reading.rows(self._client, measurement, span)) if span else 0
        return 0

    def load(self, path: Path, said: Table, progress: Progress) -> int:
        """Write the rows of a file, and return how many the database refused because they are too old for it."""
        try:
            with pq.ParquetFile(path) as file:
                measurement = from_schema(said["policy"], said["measurement"], file.schema_arrow)
                if measurement.policy not in NAMES:
                    raise GatewayError(f"{path}: no policy {measurement.policy!r} is known; {', '.join(NAMES)} are.")
                refused = 0
                for batch in file.iter_batches(batch_rows(file.schema_arrow)):
                    refused += self._writer.write(measurement, batch)
                    progress.add(measurement.label, rows=batch.num_rows, size_bytes=batch.nbytes)
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{path} cannot be read: {error}.") from error
        return refused

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._writer.close()
