"""The three Python loops that qosd replaces, rebuilt to be measured beside it: ping, iperf and http, a process each.

They do what such scripts do, with the same libraries, calls, fields and order: measure, write one point through
influxdb-client's batching writer, print a line, sleep a whole interval. What stood in them as constants are arguments here.
Each loop imports only what it needs, so that its memory is its own.
"""

import argparse
import time


def writer(arguments):
    """The write API as the scripts set it up, and the keywords of each write."""
    from influxdb_client import InfluxDBClient, WriteOptions

    client = InfluxDBClient(url=arguments.influx, token="token", org="bench")
    api = client.write_api(write_options=WriteOptions(batch_size=1))
    return lambda point: api.write(bucket=arguments.bucket, org="bench", record=point)


def point_of(target, fields):
    """One point of the measurement that all three share."""
    from influxdb_client import Point

    point = Point("qos_metrics").tag("target", target)
    for name, value in fields.items():
        point = point.field(name, value)
    return point


def ping_loop(arguments):
    """Five echo requests, 0.2 s apart."""
    from icmplib import ping

    write = writer(arguments)
    while True:
        host = ping(arguments.target, count=5, interval=0.2, timeout=1, privileged=True)
        loss = host.packet_loss * 100
        write(point_of(arguments.target, {
            "ping_avg_ms": host.avg_rtt,
            "ping_min_ms": host.min_rtt,
            "ping_max_ms": host.max_rtt,
            "ping_jitter_ms": host.jitter,
            "ping_packet_loss_pct": loss,
        }))
        print(f"[ping] avg={host.avg_rtt}ms, loss={loss}%")
        time.sleep(arguments.interval)


def iperf_loop(arguments):
    """One TCP test; its jitter is the 0 that stands for a value that TCP does not have."""
    import json
    import subprocess

    write = writer(arguments)
    command = ["iperf3", "--client", arguments.target, "--port", "5201", "--time", str(arguments.duration), "--json"]
    while True:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=arguments.duration + 5)
            if done.returncode != 0:
                print("iperf3 failed:", done.stderr)
                time.sleep(arguments.interval)
                continue
            end = json.loads(done.stdout)["end"]
            bandwidth = end["sum_received"]["bits_per_second"] / 1_000_000
            jitter = end.get("sum", {}).get("jitter_ms", 0)
            write(point_of(arguments.target, {"iperf_bandwidth_mbps": bandwidth, "iperf_jitter_ms": jitter}))
            print(f"[iperf] bandwidth={bandwidth} Mbps, jitter={jitter} ms")
        except Exception as error:  # as broad as in the scripts
            print("iperf3 error:", error)
        time.sleep(arguments.interval)


def timed(request):
    """The answer of a request and its milliseconds; nothing of either when it failed."""
    start = time.time()
    try:
        answer = request()
        return answer, (time.time() - start) * 1000
    except Exception:  # as broad as in the scripts
        return None, None


def http_loop(arguments):
    """A GET, a download, an upload of 100 KiB; what failed is written as 0 or -1."""
    import requests

    write = writer(arguments)
    base = f"http://{arguments.target}:{arguments.http_port}"
    body = b"a" * 1024 * 100
    while True:
        page, ping_ms = timed(lambda: requests.get(base, timeout=5))
        file, download_ms = timed(lambda: requests.get(f"{base}/testfile.bin", timeout=10))
        sent, upload_ms = timed(lambda: requests.post(f"{base}/upload", data=body, timeout=15))
        status = lambda answer: -1 if answer is None else answer.status_code
        write(point_of(arguments.target, {
            "http_ping_ms": ping_ms or 0,
            "http_status_code": status(page),
            "http_download_ms": download_ms or 0,
            "http_download_bytes": 0 if file is None else len(file.content),
            "http_download_status": status(file),
            "http_upload_ms": upload_ms or 0,
            "http_upload_status": status(sent),
        }))
        print(f"[http] ping={ping_ms} ms, dl={download_ms} ms, ul={upload_ms} ms")
        time.sleep(arguments.interval)


LOOPS = {"ping": ping_loop, "iperf": iperf_loop, "http": http_loop}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("--target", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=9877)
    parser.add_argument("--influx", default="http://127.0.0.1:8087")
    parser.add_argument("--bucket", default="bench")
    parser.add_argument("--interval", type=int, default=60)
    parser.add_argument("--duration", type=int, default=10)
    arguments = parser.parse_args()
    LOOPS[arguments.loop](arguments)
