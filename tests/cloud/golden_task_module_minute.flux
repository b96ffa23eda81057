// Made by `swapline cloud apply`, which puts it back: a point each 1m of module.
import "date"

option task = {name: "swapline.module.minute", every: 300s, offset: 30s}

stop = date.truncate(t: now(), unit: 1m)
start = date.sub(from: stop, d: 600s)

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "module")
    |> filter(
        fn: (r) =>
            r._field == "voltage_v"
                or r._field == "current_a"
                or r._field == "soc_pct"
                or r._field == "soh_pct"
                or r._field == "capacity_remaining_ah"
                or r._field == "capacity_full_ah"
                or r._field == "cell_voltage_min_v"
                or r._field == "cell_voltage_max_v"
                or r._field == "cell_voltage_mean_v"
                or r._field == "temperature_min_c"
                or r._field == "temperature_max_c"
                or r._field == "temperature_mosfet_c"
                or r._field == "temperature_ambient_c"
                or r._field == "insulation_kohm",
    )
    |> aggregateWindow(every: 1m, fn: mean, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_mean"}))
    |> to(bucket: "swapline_minute", org: "swapline")
    |> yield(name: "mean")

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "module")
    |> filter(
        fn: (r) =>
            r._field == "voltage_v"
                or r._field == "current_a"
                or r._field == "soc_pct"
                or r._field == "soh_pct"
                or r._field == "capacity_remaining_ah"
                or r._field == "capacity_full_ah"
                or r._field == "cell_voltage_min_v"
                or r._field == "cell_voltage_max_v"
                or r._field == "cell_voltage_mean_v"
                or r._field == "temperature_min_c"
                or r._field == "temperature_max_c"
                or r._field == "temperature_mosfet_c"
                or r._field == "temperature_ambient_c"
                or r._field == "insulation_kohm"
                or r._field == "cycles"
                or r._field == "charge_in_ah"
                or r._field == "charge_out_ah"
                or r._field == "energy_in_kwh"
                or r._field == "energy_out_kwh",
    )
    |> aggregateWindow(every: 1m, fn: min, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_min"}))
    |> to(bucket: "swapline_minute", org: "swapline")
    |> yield(name: "min")

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "module")
    |> filter(
        fn: (r) =>
            r._field == "voltage_v"
                or r._field == "current_a"
                or r._field == "soc_pct"
                or r._field == "soh_pct"
                or r._field == "capacity_remaining_ah"
                or r._field == "capacity_full_ah"
                or r._field == "cell_voltage_min_v"
                or r._field == "cell_voltage_max_v"
                or r._field == "cell_voltage_mean_v"
                or r._field == "temperature_min_c"
                or r._field == "temperature_max_c"
                or r._field == "temperature_mosfet_c"
                or r._field == "temperature_ambient_c"
                or r._field == "insulation_kohm"
                or r._field == "cycles"
                or r._field == "charge_in_ah"
                or r._field == "charge_out_ah"
                or r._field == "energy_in_kwh"
                or r._field == "energy_out_kwh",
    )
    |> aggregateWindow(every: 1m, fn: max, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_max"}))
    |> to(bucket: "swapline_minute", org: "swapline")
    |> yield(name: "max")

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "module")
    |> filter(
        fn: (r) =>
            r._field == "voltage_v"
                or r._field == "current_a"
                or r._field == "soc_pct"
                or r._field == "soh_pct"
                or r._field == "capacity_remaining_ah"
                or r._field == "capacity_full_ah"
                or r._field == "cell_voltage_min_v"
                or r._field == "cell_voltage_max_v"
                or r._field == "cell_voltage_mean_v"
                or r._field == "cell_voltage_min_cell"
                or r._field == "cell_voltage_max_cell"
                or r._field == "temperature_min_c"
                or r._field == "temperature_max_c"
                or r._field == "temperature_min_sensor"
                or r._field == "temperature_max_sensor"
                or r._field == "temperature_mosfet_c"
                or r._field == "temperature_ambient_c"
                or r._field == "insulation_kohm"
                or r._field == "cycles"
                or r._field == "charge_in_ah"
                or r._field == "charge_out_ah"
                or r._field == "energy_in_kwh"
                or r._field == "energy_out_kwh"
                or r._field == "cell_count"
                or r._field == "switches"
                or r._field == "protections"
                or r._field == "balancing",
    )
    |> aggregateWindow(every: 1m, fn: count, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_count"}))
    |> to(bucket: "swapline_minute", org: "swapline")
    |> yield(name: "count")

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "module")
    |> filter(
        fn: (r) =>
            r._field == "voltage_v"
                or r._field == "current_a"
                or r._field == "soc_pct"
                or r._field == "soh_pct"
                or r._field == "capacity_remaining_ah"
                or r._field == "capacity_full_ah"
                or r._field == "cell_voltage_min_v"
                or r._field == "cell_voltage_max_v"
                or r._field == "cell_voltage_mean_v"
                or r._field == "cell_voltage_min_cell"
                or r._field == "cell_voltage_max_cell"
                or r._field == "temperature_min_c"
                or r._field == "temperature_max_c"
                or r._field == "temperature_min_sensor"
                or r._field == "temperature_max_sensor"
                or r._field == "temperature_mosfet_c"
                or r._field == "temperature_ambient_c"
                or r._field == "insulation_kohm"
                or r._field == "cycles"
                or r._field == "charge_in_ah"
                or r._field == "charge_out_ah"
                or r._field == "energy_in_kwh"
                or r._field == "energy_out_kwh"
                or r._field == "cell_count"
                or r._field == "switches"
                or r._field == "protections"
                or r._field == "balancing",
    )
    |> aggregateWindow(every: 1m, fn: last, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_last"}))
    |> to(bucket: "swapline_minute", org: "swapline")
    |> yield(name: "last")
