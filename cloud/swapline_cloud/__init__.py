"""What operators look at and what keeps it: InfluxDB's retention and roll-ups, Grafana's boards, alerts and teams.

Everything here is made from the catalogue and applied by `swapline cloud apply`; nothing here runs beside the gateway,
except `swapline cloud rollup`, which makes roll-ups of rows that came late.
"""
