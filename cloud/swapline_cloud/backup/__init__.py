"""Backups: one folder each, named after the time (UTC) when it began. This header is the specification of a folder.

```
2026-11-22T023004Z/
  manifest.json                       what is in it: rows, sizes, SHA-256 of each file; written last
  spool/spool.sqlite                  frames that the gateway had acknowledged and the database had not yet
  database/<policy>/<measurement>.parquet   every point of an InfluxDB, types, tags and nanoseconds kept
  database/swapline.duckdb            or the DuckDB file
  boards/apply/...                    what `swapline cloud render` writes
  boards/grafana/<uid>.json           every board that Grafana had, people's own as well
```

1. A folder is made under another name (`.unfinished-...`) and gets its own when all of it is on the disk. One that was
   killed, or whose disk was full, never looks complete; the next backup removes it.
2. The spool is copied before the database is read: a frame leaves the spool when the database has it, so one that is
   not in the copy is in the rows that are read later. Everything acknowledged before the beginning is in the backup.
3. Rows are read by InfluxQL and written back by line protocol: the same for InfluxDB 1.x, 2.x and 3.x, and from one to
   the other. A reading's point is a pure function of its frame, so one that is there already is written over with
   itself. Roll-ups and books are not: over newer ones, those of the backup are older.
"""
