"""The programs that benches/ping.py compares: how each is told to ping, and how what it says is read.

Each of `ACCURATE` measures one host packet by packet; each of `LOADS` keeps a rate over many. What is asked of them is the same.
"""

import contextlib
import csv
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ROOT / "target/tools/bin"
VENV = ROOT / "target/bench/venv/bin/python3"
# What fping takes from one packet to the next beside the pause that it is told: without it it falls behind the rate.
FPING_OWN_MS = 0.06
# What its unit leaves qosd: no capability but this one.
CONFINED = ["setpriv", "--bounding-set=-all,+net_raw"]
# fping numbers its packets with 16 bits, and uses no number twice within 10 s.
FPING_NUMBERS = 65_000
FPING_REST_SECONDS = 10


def qosd_binary():
    return os.environ.get("QOSD", str(ROOT / "target/release/qosd"))


def in_namespaces():
    """Runs this very program in namespaces of its own: with their first process goes everything that it started."""
    command = ["unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", sys.executable, *sys.argv]
    # unshare itself would ignore it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    process = subprocess.Popen(command, env=os.environ | {"QOSD_BENCH": "inside"})
    try:
        return process.wait()
    except KeyboardInterrupt:
        # It got the same signal, and tidies up.
        return process.wait()
    finally:
        process.kill()


def address(index):
    """One of many addresses on loopback."""
    return f"10.{78 + (index >> 16)}.{index >> 8 & 255}.{index & 255}"


def versions():
    """What was compared, for the record."""
    said = lambda *command: subprocess.run([str(word) for word in command], capture_output=True, text=True).stdout.split("\n")[0]
    return {
        "qosd": said(qosd_binary(), "--version"),
        "commit": os.environ.get("QOSD") or said("git", "-C", ROOT, "describe", "--always", "--dirty"),
        "fping": said(TOOLS / "fping", "-v").split(": ")[-1].replace("Version", "fping"),
        "ping": said(TOOLS / "ping", "-V"),
        "icmplib": said(VENV, "-c", "import importlib.metadata as m; print('icmplib', m.version('icmplib'))"),
    }


def end(process, how=signal.SIGTERM):
    """Ends a process of ours, unless it has ended."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


# -- one host, packet by packet: (number, round-trip time in ns) of each answer ---------------------------------------


def output_of(command, seconds):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds + 30)
    if not done.stdout and not done.stderr:
        sys.exit(f"{command[0]} said nothing")
    return done.stdout, done.stderr


def found(pattern, text, first=0):
    return [(int(number) - first, round(float(ms) * 1e6)) for number, ms in re.findall(pattern, text)]


def qosd_command(host, count, spacing_ms, timeout="1s"):
    return [*CONFINED, qosd_binary(), "ping", host, "-4", "-c", count, "-i", f"{spacing_ms}ms", "-W", timeout, "-v", "--output", "json"]


def qosd_answers(said):
    return found(r"packet (\d+): ([\d.]+) ms", said)


def qosd_packets(host, count, spacing_ms):
    row, said = output_of(qosd_command(host, count, spacing_ms), count * spacing_ms / 1000)
    return qosd_answers(said), json.loads(row)["fields"]


def fping_packets(host, count, spacing_ms):
    said, _ = output_of([TOOLS / "fping", "-c", count, "-p", spacing_ms, "-t", 1000, host], count * spacing_ms / 1000)
    return found(r"\[(\d+)\], \d+ bytes, ([\d.]+) ms", said), None


def ping_packets(host, count, spacing_ms):
    said, _ = output_of([TOOLS / "ping", "-n", "-c", count, "-i", spacing_ms / 1000, host], count * spacing_ms / 1000)
    return found(r"icmp_seq=(\d+) .*time=([\d.]+) ms", said, first=1), None


def icmplib_packets(host, count, spacing_ms):
    script = f"import icmplib; print(*icmplib.ping({host!r}, count={count}, interval={spacing_ms / 1000}, timeout=1).rtts)"
    said, _ = output_of([VENV, "-c", script], count * spacing_ms / 1000)
    return [(number, round(float(ms) * 1e6)) for number, ms in enumerate(said.split())], None


ACCURATE = {"qosd": qosd_packets, "fping": fping_packets, "ping": ping_packets, "icmplib": icmplib_packets}


# -- many hosts at a rate ---------------------------------------------------------------------------------------------


class Load:
    """Processes that ping at a rate. `settle` is when the rate is reached, in seconds after the first echo; `ends` whether they end
    by themselves, and only then say what they lost."""

    settle, ends, note = 1.0, True, ""

    def __init__(self, folder, rate, seconds):
        self.folder, self.rate, self.seconds = folder, rate, seconds
        self.processes, self.log = [], None

    def start(self):
        with contextlib.closing(open(self.folder / "said", "w")) as self.log:
            self.processes = [subprocess.Popen([str(word) for word in command], stdout=self.log, stderr=self.log)
                              for command in self.commands()]

    def span(self):
        """How long it is to run after its first echo."""
        return int(self.settle + self.seconds + 1)

    def stop(self):
        """Ends it; the result is how many of its packets it calls lost, or None if it does not say."""
        for process in self.processes:
            end(process, signal.SIGINT)
        return self.lost((self.folder / "said").read_text())


def fping_command(folder, count, period_ms, rate):
    pause = max(0.0, 1000 / rate - FPING_OWN_MS)
    return [TOOLS / "fping", "-q", "-c", count, "-p", period_ms, "-t", 1000, "-i", f"{pause:.3f}", "-f", folder / "targets"]


class Fping(Load):
    def commands(self):
        (self.folder / "targets").write_text("".join(f"{address(index)}\n" for index in range(self.rate)))
        return [fping_command(self.folder, self.span(), 1000, self.rate)]

    def span(self):
        span = super().span()
        if self.rate * span > FPING_NUMBERS and self.rate * FPING_REST_SECONDS > FPING_NUMBERS:
            span = FPING_NUMBERS // self.rate
            self.note = f"{span} s: its sequence numbers last no longer"
        return span

    def lost(self, said):
        counts = [tuple(map(int, pair)) for pair in re.findall(r"= (\d+)/(\d+)/", said)]
        if not counts:
            self.note = said.strip().split("\n")[-1][:80]
            return None
        return sum(sent - received for sent, received in counts)


class Burst(Fping):
    """1 000 hosts in `seconds` rounds, as fast as the rate."""

    def commands(self):
        (self.folder / "targets").write_text("".join(f"{address(index)}\n" for index in range(1000)))
        return [fping_command(self.folder, self.seconds, 1_000_000 / self.rate, self.rate)]


class Ping(Load):
    """A process for each host, at most 1 000. Told a pause under 10 ms it polls, which would be no fair comparison."""

    # Until the last process has been started.
    settle = 6.0
    ends = False

    def commands(self):
        processes = min(self.rate, 1000)
        self.note = f"{processes} processes"
        pause = processes / self.rate
        return [[TOOLS / "ping", "-q", "-n", "-i", pause, address(index)] for index in range(processes)]

    def lost(self, said):
        counts = re.findall(r"(\d+) packets transmitted, (\d+) received", said)
        return sum(int(sent) - int(received) for sent, received in counts) if counts else None


class Icmplib(Load):
    """`multiping` with datagram sockets: with raw ones each of its sockets gets every reply."""

    settle = 3.0

    def commands(self):
        hosts = f"[{', '.join(repr(address(index)) for index in range(self.rate))}]"
        script = (f"import icmplib, resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({self.rate + 100}, {self.rate + 100}))\n"
                  f"hosts = icmplib.multiping({hosts}, count={self.span()}, interval=1, timeout=1, concurrent_tasks={self.rate + 1}, privileged=False)\n"
                  "print('lost', sum(host.packets_sent - host.packets_received for host in hosts))\n")
        (self.folder / "script.py").write_text(script)
        return [[VENV, self.folder / "script.py"]]

    def lost(self, said):
        lost = re.findall(r"^lost (\d+)", said, re.MULTILINE)
        return int(lost[0]) if lost else None


class Qosd(Load):
    """The service: a row for each target and interval, into its journal."""

    def __init__(self, folder, rate, seconds, interval=60, spacing_ms=1000):
        super().__init__(folder, rate, seconds)
        self.interval, self.spacing_ms = interval, spacing_ms
        self.targets = rate * spacing_ms // 1000
        # The phases are spread over an interval: from then on all series run at all times.
        self.settle = interval + 2.0
        self.ends = False

    def commands(self):
        (self.folder / "qosd.toml").write_text(f'[agent]\nname = "bench"\ndata_dir = "{self.folder}/journal"\n[log]\nlevel = "warn"\n')
        (self.folder / "conf.d").mkdir()
        # A file of the config is at most 1 MiB.
        for number, first in enumerate(range(0, self.targets, 40_000)):
            hosts = ", ".join(f'"{address(index)}"' for index in range(first, min(first + 40_000, self.targets)))
            (self.folder / f"conf.d/{number}.toml").write_text(
                f'[ping.bench{number}]\ntargets = [{hosts}]\ninterval = "{self.interval}s"\n'
                f'count = {self.interval * 1000 // self.spacing_ms}\nspacing = "{self.spacing_ms}ms"\n')
        return [[*CONFINED, qosd_binary(), "run", "--config", self.folder / "qosd.toml"]]

    def stop(self):
        for process in self.processes:
            end(process)
        return None

    def rows(self, since, slots):
        """The sums of the rows whose slots lie within `slots` intervals from `since`: as many for each target."""
        bounds = [datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
                  for at in (since, since + slots * self.interval)]
        sums = {"rows": 0, "missing": self.targets * slots, "results": {}, "stamps": {}}
        ago = f"{int(time.time() - since) + 60}s"
        command = [qosd_binary(), "export", "--config", self.folder / "qosd.toml", "--since", ago, "--kind", "ping", "--format", "csv"]
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as export:
            for row in csv.DictReader(export.stdout):
                if bounds[0] <= row["time"] < bounds[1]:
                    add(sums, row)
        if export.returncode:
            sys.exit("the rows could not be read")
        lost = sums["sent"] - sums["received"] if "sent" in sums else None
        excused = sum(sums.get(name, 0) for name in ("local_errors", "local_drops"))
        return {**sums, "lost": lost, "false_loss": None if lost is None else lost - excused}


def add(sums, row):
    """Adds a row to the sums."""
    sums["rows"] += 1
    sums["missing"] -= 1
    word = row["result"] if row["result"] in ("ok", "partial") else f"{row['result']}: {row['error']}"
    sums["results"][word] = sums["results"].get(word, 0) + 1
    for name in ("sent", "received", "duplicates", "reordered", "late", "corrupt", "icmp_errors", "local_errors", "local_drops"):
        sums[name] = sums.get(name, 0) + int(row.get(f"ping_{name}") or 0)
    if row.get("ping_timestamps"):
        sums["stamps"][row["ping_timestamps"]] = sums["stamps"].get(row["ping_timestamps"], 0) + 1


LOADS = {"qosd": Qosd, "fping": Fping, "ping": Ping, "icmplib": Icmplib}
