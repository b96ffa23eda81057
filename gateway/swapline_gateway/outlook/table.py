"""Measurements of the outlook, a point a minute for each van and each station."""

from swapline_gateway.battery.table import NUMBER, TEXT, WHOLE, Table

# `station` is the nearest one of its fleet; the way there counts streets, not the crow's flight. `age_s` is that of the
# van's newest reading: figures of a silent van are old ones.
OUTLOOK = Table(
    "outlook",
    ("fleet", "node"),
    {"soc_pct": NUMBER, "energy_left_kwh": NUMBER, "consumption_kwh_per_km": NUMBER, "range_km": NUMBER}
    | {"modules": WHOLE, "soc_min_pct": NUMBER, "latitude_deg": NUMBER, "longitude_deg": NUMBER}
    | {"station": TEXT, "station_distance_km": NUMBER, "is_low": WHOLE, "age_s": NUMBER},
)
# `ready`: modules that a van could take now. `power_kw` is the grid meter's.
OUTLOOK_STATION = Table(
    "outlook_station",
    ("fleet", "node"),
    {"slots": WHOLE, "occupied": WHOLE, "ready": WHOLE, "charging": WHOLE, "power_kw": NUMBER}
    | {"latitude_deg": NUMBER, "longitude_deg": NUMBER, "swaps_hour": WHOLE},
)
OUTLOOKS = (OUTLOOK, OUTLOOK_STATION)
