"""The figures of benches/ping.py as the tables of docs/benchmarks.md."""

import statistics


def nearest_rank(values, share):
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def spread(values):
    return {"p50": nearest_rank(values, 50), "p99": nearest_rank(values, 99), "max": max(values)}


def table(head, rows):
    lines = [head, ["---" if index == 0 else "---:" for index in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def groups(found, *keys):
    """Runs by what they have in common, in the order in which they were first seen."""
    sorted_out = {}
    for figures in found:
        sorted_out.setdefault(tuple(figures[key] for key in keys), []).append(figures)
    return sorted_out


def cpu(found):
    cost = {key: statistics.median(costs) if (costs := [run["cpu_us_per_echo"] for run in runs if "rate" in run]) else None
            for key, runs in groups(found, "asked", "tool").items()}
    rows = []
    for (asked, tool), runs in groups(found, "asked", "tool").items():
        done = [run for run in runs if "rate" in run]
        each = ", ".join(number(run["cpu_us_per_echo"]) for run in done)
        fping, own = cost.get((asked, "fping")), cost[asked, tool]
        lost = [run["lost"] for run in done if run["lost"] is not None]
        rows.append([number(asked, 0), tool, number(statistics.median(run["rate"] for run in done) if done else None, 0), number(own), each,
                     number(own / fping, 2) if own and fping else "–", max(lost) if lost else "–", runs[-1]["note"] or ""])
    return table(["echoes/s asked", "tool", "echoes/s sent", "CPU µs an echo, median", "each run", "÷ fping", "lost", "note"], rows)


def scale(found):
    rows = [[number(run["targets"], 0), number(run["seconds"], 0), number(run["rate"], 0), run.get("sent", 0), run.get("received", 0),
             run["false_loss"], run.get("local_drops", 0) + run.get("local_errors", 0), run["missing"],
             number(run["cpu_pct"]), number(run["rss_max_kib"] / 1024), number(run["stall_ms"], 0), words(run["results"])] for run in found]
    return table(["targets", "s", "echoes/s", "sent", "received", "false loss", "local drops and errors", "rows missing", "CPU, % of a core",
                  "RSS, largest, MiB", "harness woke late by, ms", "rows by result"], rows)


def words(counts):
    return ", ".join(f"{word} {count}" for word, count in sorted(counts.items(), key=lambda pair: -pair[1])[:4])


def sustained(found):
    rows = []
    for tool, rungs in found.items():
        for rung in rungs:
            rows.append([tool, number(rung["asked"], 0), number(rung["rate"], 0), number(rung["seconds"]), rung["lost"],
                         number(rung.get("cpu_pct"), 0), "yes" if rung["kept"] else "no"])
    return table(["tool", "echoes/s asked", "echoes/s sent", "s", "lost", "CPU, % of a core", "kept, without loss"], rows)


def accuracy(found):
    rows = []
    for (loops, delay, tool), runs in sorted(groups(found, "loops", "delay_ms", "tool").items(), key=lambda group: group[0][:2]):
        done = [run for run in runs if "error_us" in run]
        if not done:
            rows.append([setting(loops, delay), tool, f"0 of {len(runs)}", min(run["answers"] for run in runs), *["–"] * 6])
            continue
        of = lambda kind, figure: [run[kind][figure] for run in done]
        within = sum(run["error_us"]["p50"] <= 10 and run["error_us"]["p99"] <= 25 for run in done)
        rows.append([setting(loops, delay), tool, f"{within} of {len(runs)}", min(run["answers"] for run in runs), span(of("error_us", "p50")), span(of("error_us", "p99")),
                     number(statistics.median(of("error_us", "max"))), number(max(of("error_us", "max"))),
                     span(of("sending_us", "p50")), span(of("sending_us", "p99"))])
    return table(["busy loops, real delay", "tool", "runs with p50 ≤ 10 and p99 ≤ 25", "answers of a run, least", "error p50", "error p99", "error max, median of runs",
                  "error max, worst", "sent off its time, p50", "p99"], rows) + rows_beside(found)


def rows_beside(found):
    """Whether the row says what its packets said."""
    rows = [run for run in found if "row_off_us" in run]
    stamps = ", ".join(sorted({str(run["stamps"]) for run in rows}))
    off = max((run["row_off_us"] for run in rows), default=0.0)
    return f"\n\nRows of qosd against the packets that it told one by one: at most {off:.3f} µs off; stamps: {stamps}." if rows else ""


def setting(loops, delay):
    return f"{loops or 'no'} loops, {delay} ms"


def span(values):
    least, most = number(min(values)), number(max(values))
    return least if least == most else f"{least}–{most}"


def stop(found):
    errors = [run["error_us"] for run in found if run["error_us"] is not None]
    return table(["stopped for 2 s between send and read", "answers", "error, largest, µs", "results"],
                 [[f"{len(found)} runs", len(errors), number(max(errors) if errors else None), ", ".join(sorted({run["result"] for run in found}))]])


TITLES = {
    "cpu": ("CPU time of an echo", cpu),
    "scale": ("Many targets (an echo a second to each)", scale),
    "sustained": ("Sustained rate", sustained),
    "accuracy": ("Round-trip times against the capture, µs", accuracy),
    "stop": ("Stopped between send and read", stop),
}


def markdown(found):
    host, turns = found["machine"], found["settings"]
    loads = ", ".join(f"{part} {load:.1f}" for part, load in found["load"].items())
    lines = [f"{host['qosd']} ({host['commit']}), {host['fping']}, {host['ping']}, {host['icmplib']} (Python {host['python']}); "
             f"{host['cores']} cores of {host['cpu']}, Linux {host['linux']}; interval {turns['interval']} s; {found['minutes']:.0f} minutes; "
             f"load after each part: {loads}; stolen by the host: {found['stolen_pct']:.1f} % of a core"]
    for part, (title, made) in TITLES.items():
        if part in found:
            lines += ["", f"### {title}", "", made(found[part])]
    return "\n".join(lines)
