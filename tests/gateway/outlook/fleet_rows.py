"""Rows of a small fleet as the sink writes them, for a database that the outlook is asked of."""

from dataclasses import dataclass, field

NS_PER_MS = 1_000_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


@dataclass
class FleetRows:
    """Collects lines; every method is one thing that was read at a time."""

    fleet: str = "test"
    lines: list[str] = field(default_factory=list)

    def add(self, stream: str, node: str, time_ms: int, tags: str = "", **fields: float | int) -> None:
        """Add one row. Whole numbers are stored as such."""
        values = [f"{name}={value}i" if type(value) is int else f"{name}={value!r}" for name, value in fields.items()]
        values.append("time_quality=4i")
        head = f"{stream},fleet={self.fleet},node={node}{tags}"
        self.lines.append(f"{head} {','.join(values)} {time_ms * NS_PER_MS}")

    def module(self, node: str, time_ms: int, *, bay: int, code: str, **fields: float | int) -> None:
        """Add a module's reading; without a code where it has none."""
        full = {"voltage_v": 500.0, "capacity_full_ah": 50.0} | fields  # 25 kWh
        self.add("module", node, time_ms, f",bay={bay}" + (f",module={code}" if code else ""), **full)

    def position(self, node: str, time_ms: int, latitude_deg: float, longitude_deg: float) -> None:
        """Add where somebody is."""
        self.add("position", node, time_ms, latitude_deg=latitude_deg, longitude_deg=longitude_deg)

    def drive(self, node: str, hour_ms: int, *, km: float, kwh: float, code: str, start_km: float = 100.0) -> None:
        """Add an hour's drive with one module, a row every ten seconds."""
        steps = HOUR_MS // 10_000
        for step in range(steps):
            time_ms, share = hour_ms + step * 10_000, step / (steps - 1)
            self.add("vehicle", node, time_ms, odometer_km=start_km + km * share)
            self.module(
                node,
                time_ms,
                bay=1,
                code=code,
                energy_out_kwh=10 + 1.2 * kwh * share,
                energy_in_kwh=3 + 0.2 * kwh * share,
            )

    def swap(
        self, time_ms: int, station: str, latitude_deg: float, longitude_deg: float, *, is_void: bool = False
    ) -> None:
        """Add a swap of the books."""
        tags = f"fleet={self.fleet},van=van-9,station={station},module=m{time_ms}"
        fields = f"is_void={str(is_void).lower()},latitude_deg={latitude_deg!r},longitude_deg={longitude_deg!r}"
        self.lines.append(f"swap,{tags} {fields} {time_ms * NS_PER_MS}")
