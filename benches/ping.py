"""How true qosd's pings are and what they cost, beside fping, iputils ping and icmplib, alternately in one run.

Parts: `cpu` (CPU time of an echo at equal rates), `scale` (many targets for minutes), `sustained` (the highest rate without loss),
`accuracy` (round-trip times and times of sending against a capture of the same packets), `stop` (stopped between send and read).
All in network and process namespaces of its own. `benches/ping.sh` gets what it needs and runs it.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import ping_peers as peers
import ping_report as report
import ping_wire as wire

PARTS = ("cpu", "scale", "sustained", "accuracy", "stop")
IP = peers.TOOLS / "ip"
# How long a rate may take to begin: reading a config with 100 000 targets takes its time.
PATIENCE_SECONDS = 60
# Enough to see that the harness works.
QUICK = {"interval": 10, "rounds": 1, "seconds": 5, "runs": 1, "peer_runs": 1, "count": 200, "stops": 2,
         "scale": "10000x10", "ladder": "10000"}


# -- what the kernel knows of processes and echoes --------------------------------------------------------------------


def cpu_seconds(processes):
    """User and system time of all threads, to the nanosecond: the clock of a process is (~pid << 3) | 2."""
    return sum(time.clock_gettime((~process.pid << 3) | 2) for process in processes)


def echoes():
    """Requests that arrived and replies that arrived, in this network namespace: requests are counted where they are answered."""
    names, figures = [line.split()[1:] for line in open("/proc/net/snmp") if line.startswith("Icmp:")]
    figures = dict(zip(names, map(int, figures)))
    return figures["InEchos"], figures["InEchoReps"]


def memory_kib(processes, name):
    statuses = [pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines() for process in processes]
    return sum(int(line.split()[1]) for status in statuses for line in status if line.startswith(name))


def sample(load):
    return time.monotonic(), cpu_seconds(load.processes), echoes()


def wait_for_echo(load, before):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while echoes()[0] == before:
        if time.monotonic() > deadline or any(process.poll() is not None for process in load.processes):
            load.stop()
            sys.exit(f"nothing was sent:\n{(load.folder / 'said').read_text()[-2000:]}")
        time.sleep(0.01)
    return time.time()


def pause(seconds):
    """Sleeps so long in short naps; the result is by how many ms the latest of them was late: what a disturbed machine is known by."""
    end, worst = time.monotonic() + seconds, 0.0
    while (before := time.monotonic()) < end:
        nap = min(0.05, end - before)
        time.sleep(nap)
        worst = max(worst, time.monotonic() - before - nap)
    return worst * 1000


def between(first, last):
    """What a load did from one sample to another."""
    seconds, cpu, sent = last[0] - first[0], last[1] - first[1], last[2][0] - first[2][0]
    return {"seconds": seconds, "rate": sent / seconds, "cpu_pct": cpu / seconds * 100, "cpu_us_per_echo": cpu / max(sent, 1) * 1e6}


@contextlib.contextmanager
def running(make, *arguments, **named):
    """A load from its first echo on, and when that was. It is ended whatever happens."""
    with tempfile.TemporaryDirectory(prefix="ping-", dir=peers.ROOT / "target/bench", ignore_cleanup_errors=True) as folder:
        load = make(pathlib.Path(folder), *arguments, **named)
        before = echoes()[0]
        load.start()
        try:
            yield load, wait_for_echo(load, before)
        finally:
            for process in load.processes:
                peers.end(process)


# -- cpu --------------------------------------------------------------------------------------------------------------


def cost(tool, rate, seconds, interval):
    """The CPU time of one tool's echoes at one rate."""
    named = {"interval": interval} if tool == "qosd" else {}
    with running(peers.LOADS[tool], rate, seconds, **named) as (load, _):
        time.sleep(load.settle)
        first = sample(load)
        stall_ms = pause(max(1, load.span() - load.settle - 1))
        if any(process.poll() is not None for process in load.processes):
            return {"tool": tool, "asked": rate, "note": (load.folder / "said").read_text().strip().split("\n")[-1][:80]}
        figures = between(first, sample(load))
        if load.ends:
            with contextlib.suppress(subprocess.TimeoutExpired):
                load.processes[0].wait(30)
        return {"tool": tool, "asked": rate, **figures, "stall_ms": stall_ms, "lost": load.stop(), "note": load.note}


def cpu(options):
    found = []
    for turn in range(options.rounds):
        for rate in options.rates:
            for tool in turned(options.tools, turn):
                found.append(cost(tool, rate, options.seconds, options.interval))
                tell(f"cpu: {found[-1]}")
    return found


def turned(tools, turn):
    """Another one first each time."""
    return tools[turn % len(tools):] + tools[:turn % len(tools)]


# -- scale ------------------------------------------------------------------------------------------------------------


def scale(options):
    found = []
    for targets, seconds in options.scale:
        slots = max(1, round(seconds / options.interval))
        found.append(many(targets, slots, options.interval))
        tell(f"scale: {found[-1]}")
    return found


def many(targets, slots, interval, spacing_ms=1000):
    """That many targets, for so many slots each, all of whose runs are waited for."""
    rate = targets * 1000 // spacing_ms
    with running(peers.Qosd, rate, slots * interval, interval, spacing_ms) as (load, began):
        since = began + 1
        time.sleep(load.settle)
        first = sample(load)
        stall_ms = pause(slots * interval)
        last, ended = sample(load), load.processes[0].poll()
        # The last run, and its time-out, with some room.
        time.sleep(4)
        figures = {"targets": targets, "asked": rate, **between(first, last), "stall_ms": stall_ms,
                   "rss_max_kib": memory_kib(load.processes, "VmHWM")}
        load.stop()
        said = (load.folder / "said").read_text()
        if ended is not None:
            sys.exit(f"qosd ended by itself:\n{said[-2000:]}")
        counted = {"echoes_unanswered": last[2][0] - first[2][0] - (last[2][1] - first[2][1])}
        return {**figures, **counted, **load.rows(since, slots), "log_lines": said.count("\n"), "log_end": said[-600:]}


# -- sustained --------------------------------------------------------------------------------------------------------


def sustained(options):
    """Up the ladder until a rung breaks."""
    return {"qosd": climb(options.ladder, qosd_keeps), "fping": climb(options.ladder, fping_keeps)}


def climb(ladder, keeps):
    rungs = []
    for rate in ladder:
        rungs.append(keeps(rate))
        tell(f"sustained: {rungs[-1]}")
        if not rungs[-1]["kept"]:
            break
    return rungs


def qosd_keeps(rate):
    figures = many(rate // 100, 1, 10, spacing_ms=10)
    clean = figures["missing"] == 0 and figures["lost"] == 0 and set(figures["results"]) == {"ok"}
    return {**figures, "kept": clean and figures["rate"] >= 0.99 * rate}


def fping_keeps(rate):
    """1 000 targets for as long as its sequence numbers last."""
    rounds = peers.FPING_NUMBERS // 1000
    with running(peers.Burst, rate, rounds) as (load, _):
        first = sample(load)
        while load.processes[0].poll() is None and echoes()[0] < first[2][0] + 0.9 * rounds * 1000:
            figures = between(first, sample(load))
            time.sleep(0.005)
        with contextlib.suppress(subprocess.TimeoutExpired):
            load.processes[0].wait(15)
        lost = load.stop()
        return {"asked": rate, **figures, "lost": lost, "kept": lost == 0 and figures["rate"] >= 0.95 * rate}


# -- accuracy ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def busy_loops(count):
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            peers.end(loop, signal.SIGKILL)


def accuracy(options):
    found = []
    far = wire.FarSide(IP)
    try:
        for turn in range(options.runs):
            tools = turned([tool for tool in options.tools if tool == "qosd" or turn < options.peer_runs], turn)
            for loops in (0, 4):
                for delay in (0, 5):
                    far.say(f"delay {delay}")
                    with busy_loops(loops):
                        for tool in tools:
                            found.append({"loops": loops, "delay_ms": delay, "turn": turn, **compare(tool, options.count)})
                            tell(f"accuracy: {found[-1]}")
    finally:
        far.close()
    return found


def compare(tool, count, spacing_ms=10):
    """One run of a tool beside a capture of its packets."""
    capture = wire.Capture("near")
    answers, row = peers.ACCURATE[tool](wire.FAR, count, spacing_ms)
    flights = capture.flights()
    truth = {number: reply - sent for number, (sent, reply) in enumerate(flights) if reply is not None}
    off = [abs(rtt - truth[number]) / 1e3 for number, rtt in answers if number in truth]
    if len(flights) != count or len(off) != len(answers) or not off or (tool == "icmplib" and len(off) != count):
        # An answer that was not on the wire is a finding of its own; icmplib's have no numbers, so none may be missing.
        return {"tool": tool, "requests": len(flights), "answers": len(answers), "matched": len(off)}
    late = [abs(sent - flights[0][0] - number * spacing_ms * 1e6) / 1e3 for number, (sent, _) in enumerate(flights)]
    figures = {"tool": tool, "requests": count, "answers": len(answers), "matched": len(off),
               "error_us": report.spread(off), "worst_at": off.index(max(off)), "sending_us": report.spread(late)}
    if row:
        figures["stamps"], figures["row_off_us"] = row.get("ping_timestamps"), row_off(row, [rtt for _, rtt in answers])
    return figures


def row_off(row, rtts):
    """By how much a row's figures differ from the same of the packets that were told one by one."""
    ranks = {"ping_p50_ms": 50, "ping_p95_ms": 95, "ping_p99_ms": 99, "ping_min_ms": 0, "ping_max_ms": 100}
    own = {name: report.nearest_rank(rtts, rank) for name, rank in ranks.items()} | {"ping_avg_ms": sum(rtts) / len(rtts)}
    return max(abs(row[name] * 1e3 - figure / 1e3) for name, figure in own.items())


# -- stop -------------------------------------------------------------------------------------------------------------


def stop(options):
    """SIGSTOP once the request has left, SIGCONT 2 s later, the reply 300 ms after the request."""
    found = []
    far = wire.FarSide(IP)
    try:
        far.say("delay 300")
        for turn in range(options.stops):
            # At once, perhaps still within the call that sends, and while it waits.
            found.append(stopped_between(0.0 if turn % 2 == 0 else 0.02))
            tell(f"stop: {found[-1]}")
    finally:
        far.close()
    return found


def stopped_between(pause):
    capture = wire.Capture("near")
    command = [str(word) for word in peers.qosd_command(wire.FAR, 1, 1000)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        request = capture.wait_for_request(10)
        time.sleep(pause)
        process.send_signal(signal.SIGSTOP)
        reaction_ms = (time.time_ns() - request[2]) / 1e6
        time.sleep(2)
        process.send_signal(signal.SIGCONT)
        row, said = process.communicate(timeout=30)
    finally:
        peers.end(process)
    (sent, reply), = capture.flights([request])
    answers, result = peers.qosd_answers(said), json.loads(row)["fields"]["result"]
    error = abs(answers[0][1] - (reply - sent)) / 1e3 if answers and reply else None
    return {"stopped_after_ms": reaction_ms, "result": result, "reply": reply is not None, "error_us": error}


# -- the whole --------------------------------------------------------------------------------------------------------


def tell(text):
    print(text, file=sys.stderr, flush=True)


def stolen_seconds():
    """What the host of this virtual machine took of it."""
    return int(open("/proc/stat").readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def machine():
    cpus = [line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {"cores": os.cpu_count(), "cpu": cpus[0] if cpus else os.uname().machine, "linux": os.uname().release.split("-")[0],
            "python": sys.version.split()[0], **peers.versions()}


def settings():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="3 minutes: short spans, an interval of 10 s; proves the harness alone")
    parser.add_argument("--tools", default="qosd,fping,ping,icmplib")
    parser.add_argument("--rates", default="1000,10000", help="cpu: echoes/s")
    parser.add_argument("--rounds", type=int, default=2, help="cpu: how often each is measured")
    parser.add_argument("--seconds", type=int, default=10, help="cpu: for how long")
    parser.add_argument("--scale", default="10000x360,50000x120,100000x60", help="scale: targets x seconds")
    parser.add_argument("--ladder", default="20000,50000,100000,200000", help="sustained: echoes/s to try")
    parser.add_argument("--runs", type=int, default=5, help="accuracy: runs of qosd in each setting")
    parser.add_argument("--peer-runs", type=int, default=1, help="accuracy: runs of the others")
    parser.add_argument("--count", type=int, default=1000, help="accuracy: echoes of a run, 10 ms apart")
    parser.add_argument("--stops", type=int, default=10, help="stop: how often")
    parser.add_argument("--interval", type=int, default=60, help="seconds from row to row of a target, an echo each")
    parser.add_argument("--json", default=str(peers.ROOT / "target/bench/ping.json"), help="where the figures go")
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    options.tools = options.tools.split(",")
    options.rates = [int(rate) for rate in options.rates.split(",")]
    options.ladder = [int(rate) for rate in options.ladder.split(",")]
    options.scale = [tuple(map(int, pair.split("x"))) for pair in options.scale.split(",")]
    return options


def prepare():
    """A loopback with 131 072 addresses that answer."""
    for words in ("link set lo up", "route add local 10.78.0.0/15 dev lo"):
        subprocess.run([str(IP), *words.split()], check=True)
    # For icmplib's datagram sockets.
    pathlib.Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")


def main():
    options = settings()
    if os.environ.get("QOSD_BENCH") != "inside":
        sys.exit(peers.in_namespaces())
    prepare()
    began, stolen = time.monotonic(), stolen_seconds()
    found = {"machine": machine(), "load": {}, "settings": vars(options)}
    for part in [part for part in PARTS if part in options.parts or not options.parts]:
        found[part] = globals()[part](options)
        found["load"][part] = os.getloadavg()[1]
        found["minutes"] = (time.monotonic() - began) / 60
        found["stolen_pct"] = (stolen_seconds() - stolen) / (time.monotonic() - began) * 100
        pathlib.Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    print(report.markdown(found))


if __name__ == "__main__":
    main()
