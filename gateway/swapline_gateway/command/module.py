"""`swapline module`: all that is known of one battery module."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from swapline_gateway import config as configuration
from swapline_gateway.battery import code as module_code
from swapline_gateway.battery.access import open_answers
from swapline_gateway.battery.answers import LIMIT_MAX

from .listing import known_module, number, place, table, when, with_config

STAYS_MAX = 20  # the newest; `--json` has all
_EVIDENCE = {
    "event": "told",
    "sighting": "first reading",
    "displaced": "another module came",
    "elsewhere": "seen elsewhere",
    None: "",
}
_ESTIMATES = ("capacity", "resistance", "spread", "spread_trend")
_NOT_YET = "not yet known"


@click.command()
@click.argument("code")
@with_config
@click.option("--json", "as_json", is_flag=True, help="One JSON object with everything.")
def module(code: str, config_path: Path, *, as_json: bool) -> None:
    """Say where a module is and was, how it was treated, and what does not fit together.

    CODE is what its BMS says. The database may be open in a running gateway.
    """
    with open_answers(configuration.load(config_path)) as answers:
        answer = answers.module(known_module(code, answers.codes()["codes"]), limit=LIMIT_MAX)
    if as_json:
        click.echo(json.dumps(answer))
        return
    for line in describe(code, answer):
        click.echo(line)


def describe(code: str, answer: dict[str, Any]) -> Iterator[str]:
    """Yield what people read of one module."""
    yield from _identity(module_code.parse(code))
    ledger = answer["ledger"]
    yield from _stays(ledger["stays"])
    yield from _swaps(ledger["swaps"])
    yield from _contradictions(ledger["contradictions"])
    yield from _passport(answer.get("passport"))
    warnings = answer.get("warnings") or []
    if warnings:
        yield _title("Early warnings")
        yield from (f"  {one['text']}" for one in warnings)


def _title(text: str) -> str:
    return "\n" + click.style(text, bold=True)


def _identity(code: module_code.ModuleCode) -> Iterator[str]:
    yield click.style(code.text, bold=True)
    if code.maker is not None:
        made = code.production_date.isoformat() if code.production_date else "an unknown day"
        yield f"  maker {code.maker}, {code.product}, {code.chemistry}, specification {code.specification}"
        yield f"  traceability {code.traceability}, made on {made}, serial number {code.serial}"
    for problem in code.problems:
        yield click.style(f"  unusual: {problem}", fg="yellow")


def _stays(stays: list[dict[str, Any]]) -> Iterator[str]:
    yield _title("Holders")
    if not stays:
        yield "  Nothing is known of where it was."
        return
    if len(stays) > STAYS_MAX:
        yield f"  ({len(stays) - STAYS_MAX} earlier ones left out; --json has them)"
    rows = [
        (
            place(stay),
            when(stay["from_utc_ms"]),
            _EVIDENCE.get(stay["from_evidence"], stay["from_evidence"]),
            when(stay["until_utc_ms"], unknown="still there"),
            _EVIDENCE.get(stay["until_evidence"], ""),
            when(stay["last_seen_utc_ms"]),
        )
        for stay in stays[-STAYS_MAX:]
    ]
    head = ("where", "from (UTC)", "known by", "until", "known by", "last reading")
    yield from (f"  {line}" for line in table(head, rows))


def _swaps(swaps: list[dict[str, Any]]) -> Iterator[str]:
    yield _title(f"Swaps ({len(swaps)})")
    rows = [
        (
            when(swap["start_utc_ms"]),
            swap["van"] or "",
            swap["station"] or "",
            swap["module_out"] or "",
            swap["module_in"] or "",
            number(swap["soc_out_pct"], "%"),
            number(swap["soc_in_pct"], "%"),
            number(swap["duration_s"], "s", 0),
            number(swap["odometer_km"], "km"),
        )
        for swap in swaps[-STAYS_MAX:]
    ]
    if rows:
        head = ("when (UTC)", "van", "station", "out", "in", "SoC out", "SoC in", "took", "odometer")
        yield from (f"  {line}" for line in table(head, rows))


def _contradictions(found: list[dict[str, Any]]) -> Iterator[str]:
    yield _title(f"Contradictions ({len(found)})")
    for one in found:
        yield click.style(
            f"  {when(one['time_utc_ms'])} UTC  {one['kind'].replace('_', ' ')}: {one['text']}", fg="yellow"
        )


def _passport(passport: dict[str, Any] | None) -> Iterator[str]:
    yield _title("Passport")
    if passport is None:
        yield "  Nothing is known of it yet."
        return
    yield f"  from {when(passport['first_utc_ms'])} to {when(passport['last_utc_ms'])} UTC, read for {_hours(passport)}"
    yield f"  energy in, out: {_pair(passport, 'energy_in_kwh', 'energy_out_kwh')} kWh ({passport['energy_method']})"
    yield f"  charge in, out: {_pair(passport, 'charge_in_ah', 'charge_out_ah')} Ah"
    yield f"  equivalent full cycles: {number(passport['equivalent_full_cycles']) or _NOT_YET}"
    yield f"  fast-charged: {_share(passport['fast_charge_share'])}"
    yield f"  time at states of charge (%): {_bands(passport['soc_s'])}"
    yield f"  time at temperatures (degC): {_bands(passport['temperature_s'])}"
    for name in _ESTIMATES:
        yield f"  {name.replace('_', ' ')}: {_estimate(passport[name])}"
    yield f"  holders: {passport['holder_count']}, changes from one to another: {passport['swap_count']}"
    counts = passport["alarm_counts"].items()
    yield f"  alarms raised: {', '.join(f'{count} of level {level}' for level, count in counts)}"
    yield from _siblings(passport["siblings"])


def _hours(passport: dict[str, Any]) -> str:
    return number(passport["known_s"] / 3600, "h")


def _pair(passport: dict[str, Any], *names: str) -> str:
    return ", ".join(number(passport[name]) for name in names)


def _share(share: float | None) -> str:
    return _NOT_YET if share is None else f"{100 * share:.1f} %"


def _bands(seconds: dict[str, float]) -> str:
    """Return the share of the time that is known, of each band that had any."""
    known_s = sum(seconds.values())
    return ", ".join(f"{band}: {_share(part / known_s)}" for band, part in seconds.items() if part) or _NOT_YET


def _siblings(siblings: dict[str, Any]) -> Iterator[str]:
    """Yield how it stands among modules of its kind."""
    if not siblings.get("figures"):
        yield f"  among its siblings: {_NOT_YET}: {siblings.get('reason', '')}"
        return
    yield f"  among its siblings ({siblings['family']}...):"
    rows = [
        (name, f"{one['value']:.4g}", f"{one['median']:.4g}", f"{one['percentile']:.0f} % of {one['count']}")
        for name, one in siblings["figures"].items()
    ]
    yield from (f"    {line}" for line in table(("figure", "its own", "their median", "above"), rows))


def _estimate(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return f"{_NOT_YET}: {estimate['reason']}"
    uncertainty = "" if estimate["uncertainty"] is None else f" +- {estimate['uncertainty']:.3g}"
    return f"{estimate['value']:.4g}{uncertainty} {estimate['unit']} ({estimate['method']})"
