"""Alert rules for Grafana: what fires, from where on, and what to do then (docs/alerting.md)."""
