"""What the journal takes and costs, and how fast a backlog is delivered to a real InfluxDB beside a bare loop.

Parts: `journal` (rows made durable on one core, bytes a row, line protocol, days in 1 GiB), `wear` (what a service with 100 series
a minute writes to the disk), `backlog` (a million rows to InfluxDB while live rows go on, against a loop that posts the same
bodies). All in network and process namespaces of its own. `benches/journal.sh` gets what it needs and runs it.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import journal_report as report
from ping_peers import CONFINED, ROOT, TOOLS, end, in_namespaces, qosd_binary

PARTS = ("journal", "wear", "backlog")
INFLUX = 8086
# Series of the wear part, and live ones of the backlog part.
SERIES, LIVE_SERIES = 100, 10
# With so few rows to deliver, what is left is live.
LIVE_ROWS = 100
# How often qosd's status and the database are looked at; the figures are as exact as that.
LOOK_SECONDS = 0.1
# A database that takes less than this of a core has nothing to do.
QUIET = 0.05
# Enough to see that the harness works.
QUICK = {"rows": 100_000, "backlog": 100_000, "rounds": 1, "cap": 64 << 20, "span": 20}


def tell(words):
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def scratch():
    """A folder on the disk that is measured, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="journal-", dir=ROOT / "target/bench", ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder)


def measure(*words, pinned=False):
    """What benches/journal says; on one core if it is pinned."""
    command = [*(["taskset", "-c", str(os.cpu_count() - 1)] if pinned else []), os.environ["MEASURE"], *map(str, words)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


# -- journal ----------------------------------------------------------------------------------------------------------


def journal(options):
    found = {"accept": [], "size": {}}
    for _ in range(options.rounds):
        with scratch() as folder:
            found["accept"].append(measure("accept", "--dir", folder, "--rows", options.rows, pinned=True))
    tell(f"accept: {found['accept']}")
    for kind in ("ping", "http", "iperf3"):
        with scratch() as folder:
            found["size"][kind] = measure("size", "--dir", folder, "--rows", options.rows // 2, "--kind", kind)
    tell(f"size: {found['size']}")
    found["encode"] = measure("encode", "--rows", 20_000, pinned=True)
    tell(f"encode: {found['encode']}")
    for name, more in (("cap", ()), ("cap_of_others", ("--receipts",))):
        with scratch() as folder:
            found[name] = measure("cap", "--dir", folder, "--max-size", options.cap, *more)
            # How long a smaller file lasts is told for one of 1 GiB.
            found[name]["days_of_1_gib"] = found[name]["days"] * (1 << 30) / options.cap
        tell(f"{name}: {found[name]}")
    return found


# -- the service ------------------------------------------------------------------------------------------------------


class Service:
    """A qosd in a folder of its own."""

    def __init__(self, folder, config):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "qosd.toml").write_text(f'[agent]\nname = "rome-1"\ndata_dir = "{folder}/data"\n[log]\nlevel = "info"\n{config}')
        command = [*CONFINED, qosd_binary(), "run", "--config", str(folder / "qosd.toml")]
        with open(folder / "said", "w") as log:
            self.process = subprocess.Popen(command, env={"PATH": f"{TOOLS}:/usr/bin:/bin"}, stdout=log, stderr=log)

    def status(self):
        """What its state socket says; none before it listens."""
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.folder / "data/qosd.sock"))
            connection.request("GET", "/api/v1/status")
            return json.load(connection.getresponse())
        except OSError:
            if self.process.poll() is not None:
                sys.exit(f"qosd ended:\n{(self.folder / 'said').read_text()[-2000:]}")
            return None
        finally:
            connection.close()

    def proc(self, file, name):
        """A figure of /proc."""
        lines = pathlib.Path(f"/proc/{self.process.pid}/{file}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

    def cpu_seconds(self):
        return cpu_seconds(self.process)

    def end(self):
        end(self.process)


def cpu_seconds(process):
    """User and system time of all threads, to the nanosecond: the clock of a process is (~pid << 3) | 2."""
    return time.clock_gettime((~process.pid << 3) | 2)


def ping(name, count, rest):
    targets = ", ".join(f'"127.0.1.{number + 1}"' for number in range(count))
    return f"[ping.{name}]\ntargets = [{targets}]\n{rest}\n"


# -- wear -------------------------------------------------------------------------------------------------------------


def wear(options):
    """What services as shipped write, all of them at the same time."""
    output = Influx.output("wear")
    probes = ping("core", SERIES, 'interval = "60s"')
    configs = {"no output": probes, "one output": output + probes, "one output, flush 5s": '[journal]\nflush = "5s"\n' + output + probes}
    with scratch() as folder, Influx(folder / "influx") as influx, contextlib.ExitStack() as services:
        influx.query("CREATE DATABASE wear")
        running = {}
        for number, (name, config) in enumerate(configs.items()):
            running[name] = Service(folder / str(number), config)
            services.callback(running[name].end)
        # The first slots are skipped or spread over the first interval.
        time.sleep(min(60, options.span))
        look = lambda service: (service.status()["journal"]["rows"], service.proc("io", "write_bytes"))
        before = {name: look(service) for name, service in running.items()}
        time.sleep(options.span)
        found = {}
        for name, service in running.items():
            rows, written = (now - then for now, then in zip(look(service), before[name]))
            found[name] = {"seconds": options.span, "rows": rows, "written": written, "written_per_row": written / max(rows, 1)}
    tell(f"wear: {found}")
    return found


# -- the database -----------------------------------------------------------------------------------------------------


class Influx:
    """A real InfluxDB with folders of its own."""

    def __init__(self, folder):
        folder.mkdir()
        (folder / "influxdb.conf").write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:8088"\n[meta]\ndir = "{folder}/meta"\n'
            f'[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\nquery-log-enabled = false\n'
            f'[monitor]\nstore-enabled = false\n[http]\nbind-address = "127.0.0.1:{INFLUX}"\nlog-enabled = false\n')
        with open(folder / "said", "w") as log:
            self.process = subprocess.Popen([str(TOOLS / "influxd"), "-config", str(folder / "influxdb.conf")], stdout=log, stderr=log)

    def __enter__(self):
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", INFLUX)) == 0:
                    return self
            time.sleep(0.1)
        sys.exit("influxd does not start")

    def __exit__(self, *_):
        end(self.process)

    def query(self, text, database=""):
        form = urllib.parse.urlencode({"db": database, "epoch": "ns", "q": text}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{INFLUX}/query", form) as answer:
            return json.load(answer)["results"][0].get("series", [])

    @staticmethod
    def output(database, more=""):
        return f'[influxdb.main]\nurl = "http://127.0.0.1:{INFLUX}"\ndatabase = "{database}"\n{more}\n'

    def rest(self):
        """Until it has done what it does behind its answers, so that each side finds it alike."""
        for _ in range(120):
            before = cpu_seconds(self.process)
            time.sleep(1)
            if cpu_seconds(self.process) - before < QUIET:
                return
        sys.exit("influxd does not come to rest")

    @contextlib.contextmanager
    def database(self, name):
        self.query(f"CREATE DATABASE {name}")
        self.rest()
        try:
            yield
        finally:
            self.query(f"DROP DATABASE {name}")
            self.rest()

    def rows(self, database):
        """Rows of the backlog that it has."""
        series = self.query("SELECT count(\"result_code\") FROM \"qos_metrics\" WHERE \"probe\" = 'core'", database)
        return series[0]["values"][0][1] if series else 0


class Watch(threading.Thread):
    """Looks for live rows in the database, and when each is seen first. The bare loop has it beside it, too."""

    def __init__(self, influx, database):
        super().__init__(daemon=True)
        self.influx, self.database, self.over = influx, database, threading.Event()
        # Slot in seconds, and how much later it was seen.
        self.seen, self.newest = [], {}

    def run(self):
        while not self.over.wait(LOOK_SECONDS):
            since = min(self.newest.values(), default=time.time_ns() - 5 * 10**9)
            text = f"SELECT \"result_code\" FROM \"qos_metrics\" WHERE \"probe\" = 'live' AND time > {since} GROUP BY \"target\""
            found, now = self.influx.query(text, self.database), time.time_ns()
            for series in found:
                target = series["tags"]["target"]
                for slot, _ in series["values"]:
                    if slot > self.newest.get(target, 0):
                        self.seen.append((slot / 1e9, (now - slot) / 1e9))
                        self.newest[target] = slot

    def stop(self):
        self.over.set()
        self.join()


# -- backlog ----------------------------------------------------------------------------------------------------------


def backlog(options):
    with scratch() as folder, Influx(folder / "influx") as influx:
        filled, bodies = folder / "filled", folder / "bodies"
        filled.mkdir()
        bodies.mkdir()
        rows = measure("fill", "--dir", filled, "--rows", options.backlog, "--kind", "mixed")["rows"]
        found = {"bodies": measure("bodies", "--dir", filled, "--into", bodies), "rounds": []}
        tell(f"backlog: {found['bodies']}")
        for turn in range(options.rounds):
            sides = [("qosd", lambda name: drain(influx, name, folder, filled, rows)), ("bare", lambda name: bare(influx, name, bodies, rows))]
            for side, run in sides[::-1] if turn % 2 else sides:
                with influx.database(f"{side}_{turn}"):
                    found["rounds"].append({"side": side, **run(f"{side}_{turn}")})
                tell(f"backlog: {found['rounds'][-1]}")
    return found


def bare(influx, database, bodies, rows):
    """The same bodies one after the other, over one connection."""
    watch, before = Watch(influx, database), cpu_seconds(influx.process)
    watch.start()
    figures = measure("post", "--bodies", bodies, "--port", INFLUX, "--database", database)
    watch.stop()
    check(influx, database, rows)
    return {"seconds": figures["seconds"], "rows_per_s": rows / figures["seconds"], "server_cpu_s": cpu_seconds(influx.process) - before}


def drain(influx, database, folder, filled, rows):
    """A qosd that finds the journal full and an output that is new, and measures meanwhile."""
    home = folder / database
    home.mkdir()
    shutil.copytree(filled, home / "data")
    config = Influx.output(database, 'replay = "30d"') + ping("live", LIVE_SERIES, 'interval = "1s"\ncount = 1\ntimeout = "500ms"')
    watch, server = Watch(influx, database), cpu_seconds(influx.process)
    started = time.time()
    service = Service(home, config)
    try:
        watch.start()
        begun, over, samples = until_delivered(service)
        cpu = service.cpu_seconds()
        server = cpu_seconds(influx.process) - server
        # The last rows of that time are seen when they are late, too.
        time.sleep(5)
        memory = service.proc("status", "VmHWM")
        watch.stop()
        check(influx, database, rows)
    finally:
        service.end()
        shutil.rmtree(home / "data", ignore_errors=True)
    late, expected = [late for slot, late in watch.seen if begun <= slot <= over], round(LIVE_SERIES * (over - begun))
    if len(late) < 0.9 * expected - LIVE_SERIES:
        sys.exit(f"of {expected} live rows {len(late)} were seen while the backlog was delivered")
    return {"seconds": over - begun, "rows_per_s": rows / (over - begun), "first_after_s": begun - started, "rss_max_kib": memory,
            "cpu_s": cpu, "server_cpu_s": server, "live_rows": len(late), "live_expected": expected, "late": report.spread(late), "samples": samples[::10]}


def until_delivered(service):
    """From the last look at which nothing was delivered to the first at which only live rows are left; what was seen."""
    begun, samples = None, []
    while True:
        now, status = time.time(), service.status()
        output = next(iter(status["outputs"]), None) if status else None
        if output is None or output["delivered"] == 0:
            begun = now
        else:
            samples.append((round(now - begun, 1), output["delivered"]))
            if output["last_error"]:
                sys.exit(f"the output fails: {output}")
            if output["pending"] <= LIVE_ROWS:
                return begun, time.time(), samples
        time.sleep(LOOK_SECONDS)


def check(influx, database, rows):
    """Every row is there, once."""
    if (there := influx.rows(database)) != rows:
        sys.exit(f"{database} has {there} rows of {rows}")


# -- all --------------------------------------------------------------------------------------------------------------


def stolen_seconds():
    """What the host of this virtual machine took of it."""
    return int(open("/proc/stat").readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def machine():
    said = lambda *command: subprocess.run([str(word) for word in command], capture_output=True, text=True).stdout.split("\n")[0]
    cpus = [line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {"cores": os.cpu_count(), "cpu": cpus[0] if cpus else os.uname().machine, "linux": os.uname().release.split("-")[0],
            "qosd": said(qosd_binary(), "--version"), "influxd": said(TOOLS / "influxd", "version"),
            "commit": os.environ.get("QOSD") or said("git", "-C", ROOT, "describe", "--always", "--dirty"),
            "disk": said("stat", "-f", "-c", "%T", ROOT / "target")}


def settings():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="3 minutes: few rows, short spans; proves the harness alone")
    parser.add_argument("--rounds", type=int, default=3, help="journal, backlog: how often each side is measured")
    parser.add_argument("--rows", type=int, default=400_000, help="journal: rows that are made durable")
    parser.add_argument("--cap", type=int, default=1 << 30, help="journal: bytes of the journal that is filled to its cap")
    parser.add_argument("--span", type=int, default=300, help="wear: seconds")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="backlog: rows")
    parser.add_argument("--json", default=str(ROOT / "target/bench/journal.json"), help="where the figures go")
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
    began, stolen = time.monotonic(), stolen_seconds()
    found = {"machine": machine(), "load": {}, "settings": vars(options)}
    for part in [part for part in PARTS if part in options.parts or not options.parts]:
        found[part] = globals()[part](options)
        found["load"][part] = os.getloadavg()[1]
        found["minutes"] = (time.monotonic() - began) / 60
        found["stolen_pct"] = (stolen_seconds() - stolen) / (time.monotonic() - began) * 100
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    print(report.markdown(found))


if __name__ == "__main__":
    main()
