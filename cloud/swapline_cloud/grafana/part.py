"""Grafana as a part of `apply`."""

from collections.abc import Sequence

from swapline_cloud.config import CloudConfig, GrafanaConfig
from swapline_cloud.plan import Change

from . import board, folder, notice, rule, source, team
from .connection import Connection


class GrafanaPart:
    """One Grafana: data source, folder, boards, alerts and teams, in the order in which they need each other."""

    name = "Grafana"

    def __init__(self, config: CloudConfig, grafana: GrafanaConfig, language: str) -> None:
        self._config = config
        self._grafana = grafana
        self._language = language
        self._connection = Connection(grafana)

    def changes(self) -> Sequence[Change]:
        """See `Part.changes`."""
        connection = self._connection
        return [
            *source.changes(connection, self._config),
            *folder.changes(connection),
            *board.changes(connection, self._language),
            *rule.changes(connection, self._config.alert, self._language),
            *notice.changes(connection, self._config.alert),
            *team.changes(connection, self._grafana),
        ]

    def warnings(self) -> Sequence[str]:
        """See `Part.warnings`."""
        return ()

    def close(self) -> None:
        """See `Part.close`."""
        self._connection.close()
