"""The database side of `swapline cloud apply`: policies, users or tokens, roll-ups; a `Part` for each InfluxDB."""
