"""The Grafana side of `swapline cloud`: applied through its HTTP API, or rendered as its provisioning folder."""
