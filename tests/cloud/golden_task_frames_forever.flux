// Made by `swapline cloud apply`, which puts it back: a point each 1h of frames.
import "date"

option task = {name: "swapline.frames.forever", every: 3600s, offset: 30s}

stop = date.truncate(t: now(), unit: 1h)
start = date.sub(from: stop, d: 10800s)

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "frames")
    |> filter(
        fn: (r) =>
            r._field == "seq",
    )
    |> aggregateWindow(every: 1h, fn: min, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_min"}))
    |> to(bucket: "swapline_forever", org: "swapline")
    |> yield(name: "min")

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "frames")
    |> filter(
        fn: (r) =>
            r._field == "seq"
                or r._field == "delay_ms",
    )
    |> aggregateWindow(every: 1h, fn: max, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_max"}))
    |> to(bucket: "swapline_forever", org: "swapline")
    |> yield(name: "max")

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "frames")
    |> filter(
        fn: (r) =>
            r._field == "row_count"
                or r._field == "value_count"
                or r._field == "rows_refused",
    )
    |> aggregateWindow(every: 1h, fn: sum, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_sum"}))
    |> to(bucket: "swapline_forever", org: "swapline")
    |> yield(name: "sum")

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "frames")
    |> filter(
        fn: (r) =>
            r._field == "delay_ms",
    )
    |> aggregateWindow(every: 1h, fn: mean, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: r._field + "_mean"}))
    |> to(bucket: "swapline_forever", org: "swapline")
    |> yield(name: "mean")

from(bucket: "swapline")
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == "frames")
    |> filter(
        fn: (r) =>
            r._field == "seq",
    )
    |> aggregateWindow(every: 1h, fn: count, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({r with _field: "frames"}))
    |> to(bucket: "swapline_forever", org: "swapline")
    |> yield(name: "frames")
