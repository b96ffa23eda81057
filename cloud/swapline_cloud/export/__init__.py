"""Rows as Parquet files for analysts: one file a stream and day of UTC, `stream=module/day=2026-11-01.parquet`.

Roll-ups are below a folder of their own, `rollup=minute/stream=module/...`. Rows are sorted by fleet, node and time.
Columns come from the catalogue: whole signals are int64, others float64; unit, kind and meaning of each stand in its
metadata. A file has its name when it is complete.
"""
