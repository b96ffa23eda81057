#!/bin/sh
# Bring the real servers that the tests run against, and the two tools that kill programs at a system call (strace) and
# lay links of real packets (ip): from Debian's packages when root on Debian; otherwise say exactly what is missing.
# Tests that need a missing one skip with the reason, or fail when CI=true.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin:/sbin"

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need mosquitto mosquitto
need mosquitto_sub mosquitto-clients
need influxd influxdb
need victoria-metrics victoria-metrics
need chromium chromium
need strace strace
need ip iproute2
need openssl openssl
need systemd-analyze systemd
[ -n "$missing" ] || exit 0

is_debian() { grep -q -E '^ID(_LIKE)?=.*(debian|raspbian)' /etc/os-release 2>/dev/null && command -v apt-get >/dev/null; }

# Debian starts a service as soon as it is installed, unless this script says no: the tests start their own.
forbid_services() {
    [ -e /usr/sbin/policy-rc.d ] && return
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
}

if is_debian && [ "$(id -u)" = 0 ]; then
    echo "installing from Debian's packages:$missing"
    forbid_services
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086  # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
elif is_debian; then
    echo "missing for the tests against real servers:$missing" >&2
    echo "install them with: sudo apt-get update && sudo apt-get install --no-install-recommends$missing" >&2
    [ "${CI:-}" != true ]
else
    echo "missing for the tests against real servers:$missing" >&2
    echo "these are Debian's package names; have the programs mosquitto, influxd (1.x), victoria-metrics, chromium," >&2
    echo "strace and ip in PATH, from your distribution or from mosquitto.org, influxdata.com, victoriametrics.com" >&2
    [ "${CI:-}" != true ]
fi
