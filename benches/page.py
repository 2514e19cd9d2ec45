"""How fast the page is, and whether measuring notices those who look at it.

Parts: `cold` (30 days of 100 series in the journal: each page with nothing cached), `warm` (a thousand series: overview and
metrics again and again), `clients` (ten clients that reload all the time: how late slots begin beside how late without them).
All in network and process namespaces of its own. `benches/page.sh` gets what it needs and runs it.
"""

import argparse
import http.client
import json
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import threading
import time

from journal import Service, machine, measure, scratch, tell
from ping_peers import ROOT, TOOLS, in_namespaces

PARTS = ("cold", "warm", "clients")
PORT = 9876
DAY_ROWS = 24 * 60
RANGES = ("1h", "6h", "24h", "3d", "7d", "30d")
# Series of the journal of the cold part: of each 20 one of iperf3, three of HTTP, the rest of ping.
COLD_SERIES = 100
QUICK = {"days": 2, "series": 100, "loads": 10, "span": 60}


def get(path, gzip=False):
    """Status, bytes and seconds of an answer, on a connection of its own."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"} if gzip else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, time.perf_counter() - began


def load(path):
    """Seconds and bytes of a page that has to be there."""
    status, body, seconds = get(path)
    if status != 200:
        sys.exit(f"{path}: {status} {body[:300]}")
    return seconds, len(body)


def forget():
    """Nothing of the disk is cached any more."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def wait_for(what, condition, seconds):
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.2)
    return found


def listens():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def targets(count, kind="ping", interval="1s"):
    hosts = ", ".join(f'"127.{1 + index // 60_000}.{index // 250 % 240}.{1 + index % 250}"' for index in range(count))
    return f'[web]\nlisten = ["127.0.0.1:{PORT}"]\n[ping.core]\ntargets = [{hosts}]\ninterval = "{interval}"\ncount = 1\ntimeout = "500ms"\n'


# -- cold -------------------------------------------------------------------------------------------------------------


def cold(options):
    found = {"pages": {}, "svg_bytes": 0}
    with scratch() as folder:
        tell("filling a journal")
        rows = options.days * DAY_ROWS * COLD_SERIES
        measure("fill", "--dir", folder / "data", "--rows", rows, "--kind", "mixed", "--series", COLD_SERIES)
        service = Service(folder, targets(10, interval="60s"))
        wait_for("the page listens", listens, 30)
        began = time.monotonic()
        wait_for("the history is made", lambda: history(service)["behind"] < 20_000, 600)
        found["rolled_seconds"], found["history"] = time.monotonic() - began, history(service)
        kinds = {"ping": "203.0.0.4", "http": "203.0.0.1", "iperf3": "203.0.0.0"}
        paths = ["/", "/status", "/mesh", "/metrics"]
        paths += [f"/probe/{kind}/core/{host}?range={span}" for kind, host in kinds.items() for span in RANGES]
        charts = {"ping": "ping_avg_ms", "http": "http_ping_ms", "iperf3": "iperf_bandwidth_mbps"}
        svgs = [f"/chart/{kind}/core/{host}.svg?field={charts[kind]}&range={span}" for kind, host in kinds.items() for span in RANGES]
        for path in paths + svgs:
            times = []
            for _ in range(options.rounds):
                forget()
                seconds, size = load(path)
                times.append(seconds)
                found["svg_bytes"] = max(found["svg_bytes"], size if path in svgs else 0)
            found["pages"][path] = {"ms": sorted(round(seconds * 1e3, 1) for seconds in times), "bytes": size}
            tell(f"{path}: {found['pages'][path]}")
        found["rss_max_kib"] = service.proc("status", "VmHWM")
        service.end()
    return found


def history(service):
    return service.status()["history"]


# -- warm -------------------------------------------------------------------------------------------------------------


def warm(options):
    found = {}
    with scratch() as folder:
        service = Service(folder, targets(options.series))
        wait_for("the page listens", listens, 30)
        # Full sparklines: that is when the page is largest.
        time.sleep(70)
        for path in ("/", "/?sort=value", "/metrics", "/status", "/api/v1/series"):
            times = [load(path)[0] for _ in range(options.loads)]
            found[path] = {"ms_p50": statistics.median(times) * 1e3, "ms_max": max(times) * 1e3, "bytes": load(path)[1]}
            tell(f"{path}: {found[path]}")
        found["rss_max_kib"] = service.proc("status", "VmHWM")
        service.end()
    return found


# -- clients ----------------------------------------------------------------------------------------------------------


def clients(options):
    """Idle and reloaded in turn, so that what else happens on the machine meets both."""
    found = {"idle": [], "reloaded": [], "answers": {}}
    with scratch() as folder:
        service = Service(folder, targets(100))
        wait_for("the page listens", listens, 30)
        time.sleep(5)
        for _ in range(options.rounds):
            found["idle"].append(lateness(service, options.span))
            stop, answers = threading.Event(), {}
            paths = ["/", "/status", "/metrics", "/probe/ping/core/127.1.0.1?range=1h", "/probe/ping/core/127.1.0.7?range=30d"]
            crowd = [threading.Thread(target=reload, args=(stop, paths, answers)) for _ in range(10)]
            [client.start() for client in crowd]
            found["reloaded"].append(lateness(service, options.span))
            stop.set()
            [client.join() for client in crowd]
            for status, times in answers.items():
                found["answers"][status] = found["answers"].get(status, 0) + times
            tell(f"p99 in ms: idle {found['idle'][-1]}, reloaded {found['reloaded'][-1]}, answers {found['answers']}")
        found["rss_max_kib"] = service.proc("status", "VmHWM")
        service.end()
    return found


def reload(stop, paths, answers):
    # Clients are on other hosts: here they have what nobody else wants of the processors.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while not stop.is_set():
        status = get(random.choice(paths), gzip=True)[0]
        answers[status] = answers.get(status, 0) + 1


def lateness(service, span):
    """How late slots began at p99 of each whole minute of a span, as qosd says itself, in ms; the largest."""
    time.sleep(span)
    # The last full minute is in rows that are written at its end.
    lines = get("/metrics")[1].decode().splitlines()
    line = next(line for line in lines if line.startswith("qosd_lateness_p99_seconds") and '"ping"' in line)
    return round(float(line.split()[-1]) * 1e3, 3)


# ---------------------------------------------------------------------------------------------------------------------


def settings():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="few rows, short spans; proves the harness alone")
    parser.add_argument("--rounds", type=int, default=3, help="cold, clients: how often each is measured")
    parser.add_argument("--days", type=int, default=30, help="cold: days in the journal")
    parser.add_argument("--series", type=int, default=1000, help="warm: series")
    parser.add_argument("--loads", type=int, default=50, help="warm: loads of each page")
    parser.add_argument("--span", type=int, default=130, help="clients: seconds of each side, two whole minutes at least")
    parser.add_argument("--json", default=str(ROOT / "target/bench/page.json"), help="where the figures go")
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    return options


def main():
    options = settings()
    if os.environ.get("QOSD_BENCH") != "inside":
        sys.exit(in_namespaces())
    subprocess.run([str(TOOLS / "ip"), "link", "set", "lo", "up"], check=True)
    (ROOT / "target/bench").mkdir(exist_ok=True)
    found = {"machine": machine(), "settings": vars(options)}
    for part in [part for part in PARTS if part in options.parts or not options.parts]:
        found[part] = globals()[part](options)
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
