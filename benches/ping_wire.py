"""The wire of benches/ping.py: a veth between two network namespaces, a far side that answers, and captures with kernel stamps.

The captures are the truth that round-trip times are compared with. Their stamps are the kernel's, so it does not matter how late
this process reads them: a run is read when it is over.
"""

import heapq
import os
import pathlib
import select
import socket
import struct
import subprocess
import sys
import time

NEAR, FAR = "10.77.0.1", "10.77.0.2"
ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING = 263, 6, 4
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
REQUEST, REPLY = 8, 0
BUFFER = 64 << 20


class Capture:
    """Every echo request that leaves an interface, and every reply that comes in there."""

    def __init__(self, interface):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        # Only a socket for all protocols sees what leaves.
        self.socket.bind((interface, ETH_P_ALL))
        self.socket.setblocking(False)

    def next(self):
        """The next echo message: whether it left, its key and its stamp in ns. None once there is no more."""
        while True:
            try:
                packet, control, _, address = self.socket.recvmsg(64, 64)
            except BlockingIOError:
                return None
            if address[1] != 0x0800 or packet[9] != socket.IPPROTO_ICMP:
                continue
            kind, key = packet[(packet[0] & 15) * 4], packet[(packet[0] & 15) * 4 + 4:][:4]
            left = address[2] == PACKET_OUTGOING
            if (left and kind == REQUEST) or (not left and kind == REPLY):
                seconds, nanos = next(struct.unpack("qq", data) for _, name, data in control if name == SO_TIMESTAMPNS)
                return left, key, seconds * 1_000_000_000 + nanos

    def wait_for_request(self, seconds):
        """Until a request leaves."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            select.select([self.socket], [], [], 0.1)
            while message := self.next():
                if message[0]:
                    return message
        sys.exit("no echo request was seen")

    def flights(self, first=()):
        """What was captured: for each request, in the order of sending, its stamp and that of its reply or None."""
        sent, answered = [message[1:] for message in first], {}
        while message := self.next():
            left, key, stamp = message
            if left:
                sent.append((key, stamp))
            else:
                answered.setdefault(key, stamp)
        _, lost = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.socket.close()
        if lost:
            sys.exit(f"the capture lost {lost} packets")
        return [(stamp, answered.get(key)) for key, stamp in sent]


class FarSide:
    """Another network namespace, joined by a veth, which answers at once (the kernel) or after a delay (a responder)."""

    def __init__(self, ip):
        command = ["unshare", "--net", sys.executable, __file__, str(ip)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.heard("unshared")
        run = lambda words: subprocess.run([str(ip), *words.split()], check=True)
        run(f"link add near address 02:00:00:00:00:01 type veth peer name far address 02:00:00:00:00:02 netns {self.process.pid}")
        run(f"address add {NEAR}/24 dev near")
        run("link set near up")
        # So that no address resolution is in anybody's round-trip time.
        run(f"neighbour replace {FAR} lladdr 02:00:00:00:00:02 dev near nud permanent")
        self.say("join")

    def say(self, command):
        """Has the far side do something, and waits until it has."""
        print(command, file=self.process.stdin, flush=True)
        self.heard("done")

    def heard(self, word):
        if self.process.stdout.readline().strip() != word:
            sys.exit("the far side failed")

    def close(self):
        """Its namespace, and with it the veth, goes with it."""
        self.process.stdin.close()
        self.process.wait()


# -- what runs on the far side ----------------------------------------------------------------------------------------


def as_reply(packet):
    """The ICMP message of an echo request's IP packet as its reply: the type changes, and the checksum (RFC 1624)."""
    message = bytearray(packet[(packet[0] & 15) * 4:])
    checksum = struct.unpack("!H", message[2:4])[0] + (REQUEST << 8)
    message[0] = REPLY
    message[2:4] = struct.pack("!H", (checksum & 0xFFFF) + (checksum >> 16))
    return bytes(message)


def answer(icmp, waiting, delay):
    """Takes one request in; its reply waits."""
    packet, sender = icmp.recvfrom(2048)
    if packet[(packet[0] & 15) * 4] == REQUEST:
        heapq.heappush(waiting, (time.monotonic() + delay, sender, as_reply(packet)))


def obey(ip, command):
    """Does what the near side says; the result is the new delay in seconds, if it is one."""
    words = command.split()
    if words == ["join"]:
        for line in ["link set lo up", f"address add {FAR}/24 dev far", "link set far up",
                     f"neighbour replace {NEAR} lladdr 02:00:00:00:00:01 dev far nud permanent"]:
            subprocess.run([ip, *line.split()], check=True)
        return 0.0
    delay = float(words[1]) / 1000
    # Without a delay the kernel answers.
    pathlib.Path("/proc/sys/net/ipv4/icmp_echo_ignore_all").write_text("1" if delay else "0")
    return delay


def far_side(ip):
    """Obeys the near side until it closes the pipe, and answers meanwhile."""
    os.nice(-20)
    icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    icmp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    print("unshared", flush=True)
    waiting, delay = [], 0.0
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([icmp, sys.stdin], [], [], pause)
        if icmp in ready and delay:
            answer(icmp, waiting, delay)
        elif icmp in ready:
            icmp.recv(2048)
        while waiting and waiting[0][0] <= time.monotonic():
            _, sender, message = heapq.heappop(waiting)
            icmp.sendto(message, sender)
        if sys.stdin in ready:
            command = sys.stdin.readline()
            if not command:
                return
            delay = obey(ip, command)
            print("done", flush=True)


if __name__ == "__main__":
    far_side(sys.argv[1])
