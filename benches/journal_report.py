"""The figures of benches/journal.py as the tables of docs/benchmarks.md."""

import statistics

from ping_report import number, spread, table

__all__ = ["markdown", "spread"]


def middle(runs, figure):
    return statistics.median(run[figure] for run in runs)


def each(runs, figure, digits=0):
    return ", ".join(number(run[figure], digits) for run in runs)


def journal(found):
    accept, encode, size = found["accept"], found["encode"], found["size"]
    rows = [["rows/s made durable on one core, full ping rows", number(middle(accept, "rows_per_s"), 0), each(accept, "rows_per_s")],
            ["bytes written to the disk a row, meanwhile", number(middle(accept, "written_per_row"), 0), each(accept, "written_per_row")]]
    rows += [[f"bytes of the file a row, {kind}", number(figures["bytes_per_row"]), ""] for kind, figures in size.items()]
    for kind, words in (("ping", "full ping rows"), ("mixed", "rows of all kinds")):
        for form, more in (("plain", ""), ("gzip", ", with gzip")):
            figures = encode[kind][form]
            rows.append([f"line protocol on one core, rows/s, {words}{more}", number(figures["rows_per_s"], 0),
                         f"{number(figures['bytes_per_row'], 0)} bytes a row"])
    for name, words in (("cap", "own rows"), ("cap_of_others", "rows of others, with receipts")):
        figures = found[name]
        note = f"{number(figures['rows'], 0)} rows in {number(figures['bytes'] / (1 << 20), 0)} MiB, {number(figures['bytes_per_row'])} bytes a row"
        rows.append([f"days that 1 GiB holds at 100 series a minute, {words}", number(figures["days_of_1_gib"]), note])
    return table(["", "figure", "each run"], rows)


def wear(found):
    rows = [[name, run["rows"], number(run["written_per_row"] / 1024), number(run["written"] / run["seconds"] * 86_400 / (1 << 30), 2)]
            for name, run in found.items()]
    return table(["100 series a minute", "rows", "KiB written a row", "GiB a day"], rows)


def backlog(found):
    sides = {side: [run for run in found["rounds"] if run["side"] == side] for side in ("qosd", "bare")}
    rows = []
    for side, words in (("qosd", "qosd"), ("bare", "bare loop, same bodies")):
        runs = sides[side]
        if side == "qosd":
            own = [number(middle(runs, "cpu_s")), number(max(run["late"]["p50"] for run in runs), 2), number(max(run["late"]["p99"] for run in runs), 2),
                   number(max(run["late"]["max"] for run in runs), 2), number(max(run["rss_max_kib"] for run in runs) / 1024)]
        else:
            own = ["–"] * 5
        rows.append([words, number(middle(runs, "rows_per_s"), 0), each(runs, "rows_per_s"), number(middle(runs, "seconds")),
                     number(middle(runs, "server_cpu_s")), *own])
    ratio = middle(sides["qosd"], "rows_per_s") / middle(sides["bare"], "rows_per_s")
    text = table(["", "rows/s, median", "each round", "s", "CPU of InfluxDB, s", "CPU of qosd, s", "live rows late by, p50, s", "p99", "max",
                  "RSS, largest, MiB"], rows)
    return f"{text}\n\nqosd ÷ bare loop: {ratio:.2f}"


TITLES = {"journal": ("Journal", journal), "wear": ("Written to the disk", wear), "backlog": ("A backlog, and live rows meanwhile", backlog)}


def markdown(found):
    facts = found["machine"]
    loads = ", ".join(f"{part} {load:.1f}" for part, load in found["load"].items())
    head = (f"{facts['qosd']} ({facts['commit']}), {facts['influxd']}; {facts['cores']} cores of {facts['cpu']}, Linux {facts['linux']}, {facts['disk']}; "
            f"load after each part: {loads}; {found['stolen_pct']:.1f} % of a core stolen; {found['minutes']:.0f} minutes")
    parts = [f"### {title}\n\n{made(found[part])}" for part, (title, made) in TITLES.items() if part in found]
    return "\n\n".join(["", head, *parts])
