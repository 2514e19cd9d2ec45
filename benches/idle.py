"""What it costs to measure: qosd beside the three Python loops, measured the same way, at the same time.

Each side gets network and process namespaces of its own with the same servers in it: InfluxDB, what translates the write API
for it, a responder (a qosd of its own), `iperf3 -s`. Only the side's subject is measured: memory and CPU time from /proc, the
starts of its runs from the packets on loopback, stamped by the kernel. `benches/idle.sh` gets what it needs and runs it.
"""

import argparse
import ctypes
import json
import os
import pathlib
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ROOT / "target/tools/bin"
QOSD = ROOT / "target/release/qosd"
VENV = ROOT / "target/bench/venv/bin"
INFLUX, WRITE_API, RESPONDER, IPERF = 8086, 8087, 9877, 5201
# No divisor of an interval, so that samples fall everywhere in it.
SAMPLE_SECONDS = 1.7
# Starts of one run lie closer together than this, those of two runs do not.
QUIET_SECONDS = 3
TICK = os.sysconf("SC_CLK_TCK")


# -- the servers, the same for each side ------------------------------------------------------------------------------


class WriteApi(BaseHTTPRequestHandler):
    """Takes writes as InfluxDB 2 does, as influxdb-client speaks nothing else, and hands them on as InfluxDB 1 wants them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        precision = {"ns": "n", "us": "u"}.get(asked["precision"][0], asked["precision"][0]) if "precision" in asked else "n"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = f"http://127.0.0.1:{INFLUX}/write?" + urllib.parse.urlencode({"db": asked["bucket"][0], "precision": precision})
        headers = {name: self.headers[name] for name in ["Content-Encoding"] if name in self.headers}
        try:
            status = urllib.request.urlopen(urllib.request.Request(url, body, headers)).status
        except urllib.error.HTTPError as refusal:
            status = refusal.code
            print(f"the database said {status}: {refusal.read().decode()}", file=sys.stderr)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def query(text):
    """The series of a query's answer."""
    form = urllib.parse.urlencode({"db": "bench", "q": text}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{INFLUX}/query", form) as answer:
        return json.load(answer)["results"][0].get("series", [])


def wait_for(port):
    """Until something listens there."""
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"nothing listens on port {port}")


def start_servers(folder, log, own_servers):
    """The database and the write API; the other two unless the subject has its own."""
    start = lambda *command: subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
    (folder / "influxdb.conf").write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:8088"\n[meta]\ndir = "{folder}/meta"\n'
        f'[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\nquery-log-enabled = false\n'
        f'[monitor]\nstore-enabled = false\n[http]\nbind-address = "127.0.0.1:{INFLUX}"\nlog-enabled = false\n')
    start(TOOLS / "influxd", "-config", folder / "influxdb.conf")
    wait_for(INFLUX)
    query("CREATE DATABASE bench")
    api = ThreadingHTTPServer(("127.0.0.1", WRITE_API), WriteApi)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    if not own_servers:
        (folder / "server.toml").write_text(
            f'[agent]\nname = "server"\ndata_dir = "{folder}/server"\n[responder]\nlisten = "127.0.0.1:{RESPONDER}"\n')
        start(QOSD, "run", "--config", folder / "server.toml")
        start(TOOLS / "iperf3", "-s")
        wait_for(RESPONDER)
        wait_for(IPERF)


# -- the subjects -----------------------------------------------------------------------------------------------------


def output():
    return (f'[influxdb.main]\nurl = "http://127.0.0.1:{WRITE_API}"\norg = "bench"\nbucket = "bench"\n'
            'token_file = "influx_token"\n')


def qosd_config(folder, interval, duration):
    """The tests of the three loops, as qosd says them."""
    return (f'[agent]\nname = "bench"\ndata_dir = "{folder}/journal"\n{output()}'
            f'[ping.bench]\ntargets = ["127.0.0.1"]\ninterval = "{interval}s"\ncount = 5\nspacing = "200ms"\n'
            f'[iperf3.bench]\ntargets = ["127.0.0.1"]\ninterval = "{interval}s"\nduration = "{duration}s"\nprotocols = ["tcp"]\n'
            f'[http.bench]\ntargets = ["http://127.0.0.1:{RESPONDER}/"]\ndownload = "/testfile.bin"\nupload = "/upload"\n'
            f'upload_size = "100KiB"\ninterval = "{interval}s"\n')


def demo_config(folder):
    """The demo as it is shipped, with an output and a folder of its own."""
    shipped = (ROOT / "config/demo.toml").read_text()
    moved = shipped.replace('data_dir = "target/demo"', f'data_dir = "{folder}/journal"')
    if moved == shipped:
        sys.exit("config/demo.toml has another data_dir than this expects")
    return moved + output()


def start_subject(side, folder, interval, duration):
    """Starts what is measured, its output going to a file."""
    with open(folder / "subject.log", "w") as log:
        if side == "scripts":
            command = [ROOT / "benches/three_scripts.sh", "--interval", interval, "--duration", duration]
        else:
            (folder / "influx_token").write_text("token\n")
            (folder / "influx_token").chmod(0o600)
            (folder / "qosd.toml").write_text(demo_config(folder) if side == "demo" else qosd_config(folder, interval, duration))
            # A file of its own: what it shares with the server's qosd would be left out of its PSS.
            shutil.copy(QOSD, folder / "qosd")
            command = [folder / "qosd", "run", "--config", folder / "qosd.toml"]
        environment = {"PATH": f"{VENV}:{TOOLS}:/usr/bin:/bin"}
        return subprocess.Popen([str(word) for word in command], env=environment, stdout=log, stderr=log)


# -- what is measured -------------------------------------------------------------------------------------------------


def processes_of(root):
    """The subject's processes that live now: pid to (name, kind, own ticks, ticks of children that it waited for)."""
    table = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it has ended meanwhile
            rest = rest.split()
            kind = next((word for word in words if word in ("ping", "iperf", "http")), None)
            table[int(entry.name)] = (int(rest[1]), name, kind, int(rest[11]) + int(rest[12]), int(rest[13]) + int(rest[14]))
    members, found = {root}, True
    while found:
        found = {pid for pid, row in table.items() if row[0] in members} - members
        members |= found
    return {pid: table[pid][1:] for pid in members if pid in table}


def memory_of(pid):
    """KiB: proportional and resident set."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    figures = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return figures["Pss"], figures["Rss"]


def own(processes):
    """Without iperf3, which is the same program for everybody."""
    return {pid: row for pid, row in processes.items() if row[0] != "iperf3"}


class Starts(threading.Thread):
    """When packets that begin something left: echo requests and SYNs, as the kernel stamps them."""

    # An ICMP echo request, or TCP with SYN and without ACK, seen from the IP header.
    FILTER = [(0x30, 0, 0, 9), (0x15, 5, 0, 1), (0x15, 0, 5, 6), (0xb1, 0, 0, 0), (0x50, 0, 0, 13), (0x54, 0, 0, 0x12),
              (0x15, 0, 1, 0x02), (0x06, 0, 0, 128), (0x06, 0, 0, 0)]
    TIMESTAMPNS = 35

    def __init__(self):
        super().__init__(daemon=True)
        self.seen = {"ping": [], "iperf": [], "http": []}
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in self.FILTER))
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        program = struct.pack("HxxxxxxP", len(self.FILTER), ctypes.addressof(code))
        self.socket.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER
        self.socket.setsockopt(socket.SOL_SOCKET, self.TIMESTAMPNS, 1)
        self.socket.bind(("lo", 0x0800))

    def run(self):
        while True:
            packet, control, _, _ = self.socket.recvmsg(128, 64)
            seconds, nanos = next(struct.unpack("qq", data) for _, kind, data in control if kind == self.TIMESTAMPNS)
            body = packet[(packet[0] & 15) * 4:]
            if packet[9] == 1:
                name = "ping" if body[0] == 8 else None
            else:
                name = {RESPONDER: "http", IPERF: "iperf"}.get(struct.unpack("!H", body[2:4])[0])
            if name:
                self.seen[name].append(seconds + nanos / 1e9)

    def runs(self, kind, since, until):
        """The first packet of each run in a span of time."""
        times = sorted(self.seen[kind])
        firsts = [now for before, now in zip([0.0] + times, times) if now - before > QUIET_SECONDS]
        return [first for first in firsts if since <= first < until]


def nearest_rank(values, share):
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def punctuality(firsts, interval):
    """How the starts of runs lie against a grid that the first one sets."""
    gaps = [later - earlier for earlier, later in zip(firsts, firsts[1:])]
    slips = [(gap - interval) * 1000 for gap in gaps]
    return {
        "runs": len(firsts),
        "drift_ms": statistics.fmean(slips),
        "slip_p99_ms": nearest_rank([abs(slip) for slip in slips], 99),
        "off_grid_ms": sum(slips),
    }


def measure(side, interval, duration, seconds):
    """One side, inside of its namespaces."""
    subprocess.run([TOOLS / "ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        with open(folder / "servers.log", "w+") as log:
            start_servers(folder, log, side == "demo")
        starts = Starts()
        starts.start()
        subject = start_subject(side, folder, interval, duration)
        # Loading, connecting and the first runs are not what goes on for years.
        time.sleep(2 * interval + duration)
        before, since, began = processes_of(subject.pid), time.time(), time.monotonic()
        pss, rss, loads = [], [], []
        while time.monotonic() - began < seconds:
            figures = [memory_of(pid) for pid in own(processes_of(subject.pid))]
            pss.append(sum(figure[0] for figure in figures))
            rss.append(sum(figure[1] for figure in figures))
            loads.append(float(pathlib.Path("/proc/loadavg").read_text().split()[0]))
            time.sleep(SAMPLE_SECONDS)
        after, until = processes_of(subject.pid), time.time()
        if subject.poll() is not None or own(before).keys() != own(after).keys():
            sys.exit(f"{side} did not go on as it began:\n{(folder / 'subject.log').read_text()}")
        runs = {kind: starts.runs(kind, since, until) for kind in starts.seen}
        return {
            "side": side,
            "seconds": until - since,
            "processes": len(own(after)),
            "pss_kib": statistics.fmean(pss), "pss_max_kib": max(pss),
            "rss_kib": statistics.fmean(rss), "rss_max_kib": max(rss),
            "cpu_s_per_cycle": cpu_per_cycle(own(before), own(after), runs, 2, (until - since) / interval),
            "iperf3_cpu_s_per_cycle": cpu_per_cycle(own(before), own(after), runs, 3, (until - since) / interval),
            "load": statistics.fmean(loads),
            "punctuality": {kind: punctuality(firsts, interval) for kind, firsts in runs.items() if len(firsts) > 1},
            "rows": rows(),
        }


def cpu_per_cycle(before, after, runs, column, slots):
    """Each process by the runs that it really made: a loop that drifts makes fewer than there are slots."""
    spent = 0.0
    for pid, row in after.items():
        made = len(runs[row[1]]) if row[1] else slots
        spent += (row[column] - before[pid][column]) / TICK / made
    return spent


def rows():
    """How often each kind's first field is in the database, as proof that the subject wrote there."""
    counted = {}
    for field in ("ping_avg_ms", "iperf_bandwidth_mbps", "http_ping_ms"):
        series = query(f'SELECT count("{field}") FROM "qos_metrics"')
        counted[field] = series[0]["values"][0][1] if series else 0
    return counted


# -- the table --------------------------------------------------------------------------------------------------------


def ratio(scripts, qosd):
    if qosd < 1e-9 or scripts / qosd >= 1000:
        return "> 1000"
    return f"{scripts / qosd:.1f}" if scripts / qosd < 20 else f"{scripts / qosd:.0f}"


def table(sides, interval):
    """The figures as Markdown."""
    scripts, qosd, demo = (sides.get(name) for name in ("scripts", "qosd", "demo"))
    columns = [side for side in (scripts, qosd, demo) if side]
    lines = []

    def line(label, figure, form, compared=True):
        cells = [form.format(value) if (value := figure(side)) is not None else "–" for side in columns]
        shown = ratio(abs(figure(scripts)), abs(figure(qosd))) if compared and scripts and qosd else ""
        lines.append("| " + " | ".join([label, *cells, shown]) + " |")

    line("processes", lambda side: side["processes"], "{}", False)
    line("memory, PSS, mean, MiB", lambda side: side["pss_kib"] / 1024, "{:.1f}")
    line("memory, RSS, mean, MiB", lambda side: side["rss_kib"] / 1024, "{:.1f}")
    line("memory, RSS, largest, MiB", lambda side: side["rss_max_kib"] / 1024, "{:.1f}")
    line("CPU, ms a cycle", lambda side: side["cpu_s_per_cycle"] * 1000, "{:.1f}")
    line("CPU of the `iperf3` it starts, ms a cycle", lambda side: side["iperf3_cpu_s_per_cycle"] * 1000, "{:.0f}")
    for kind, label in (("ping", "ping"), ("iperf", "iperf3"), ("http", "http")):
        of = lambda side, figure: side["punctuality"][kind][figure] if side["side"] != "demo" or kind != "iperf" else None
        line(f"{label}: runs in that time", lambda side: of(side, "runs"), "{}", False)
        line(f"{label}: drift a cycle, mean, ms", lambda side: of(side, "drift_ms"), "{:.3f}")
        line(f"{label}: cycle against the interval, p99, ms", lambda side: of(side, "slip_p99_ms"), "{:.3f}")
        line(f"{label}: off the grid at the end, ms", lambda side: of(side, "off_grid_ms"), "{:.1f}")
    line("rows of ping in the database, with the warm-up", lambda side: side["rows"]["ping_avg_ms"], "{}", False)
    line("rows of iperf3", lambda side: side["rows"]["iperf_bandwidth_mbps"], "{}", False)
    line("rows of http", lambda side: side["rows"]["http_ping_ms"], "{}", False)
    names = {"scripts": "three scripts", "qosd": "qosd", "demo": "`config/demo.toml`"}
    head = "| | " + " | ".join(names[side["side"]] for side in columns) + " | scripts ÷ qosd |"
    return "\n".join([head, "|---|" + "---:|" * (len(columns) + 1), *lines])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=int, default=10, help="seconds from run to run")
    parser.add_argument("--duration", type=int, default=1, help="seconds of an iperf3 test")
    parser.add_argument("--seconds", type=int, default=600, help="how long to measure")
    parser.add_argument("--sides", default="scripts,qosd,demo")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.interval, arguments.duration, arguments.seconds)))
        return
    command = ["unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", sys.executable, __file__,
               "--interval", str(arguments.interval), "--duration", str(arguments.duration), "--seconds", str(arguments.seconds)]
    running = [subprocess.Popen([*command, "--side", side], stdout=subprocess.PIPE) for side in arguments.sides.split(",")]
    answers = [side.communicate()[0] for side in running]
    if any(side.returncode for side in running):
        sys.exit("a side failed")
    sides = {side["side"]: side for side in map(json.loads, answers)}
    print(json.dumps(list(sides.values()), indent=1), file=sys.stderr)
    print(f"\n{os.cpu_count()} processors, Linux {os.uname().release.split('-')[0]}, mean load {statistics.fmean(side['load'] for side in sides.values()):.1f}, "
          f"interval {arguments.interval} s, iperf3 {arguments.duration} s, measured for {arguments.seconds} s\n")
    print(table(sides, arguments.interval))


if __name__ == "__main__":
    main()
