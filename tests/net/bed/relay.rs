//! A router that takes its time: what the far end answers to the opening of a connection comes later than it left.
//!
//! This kernel has no netem, so a program of ours carries IPv4 between the two cables in place of the router's own
//! forwarding. Everything but the second packet of a TCP handshake passes at once.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pnet::datalink::{self, Channel, DataLinkReceiver, DataLinkSender};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{Ipv4Packet, MutableIpv4Packet};
use pnet::packet::tcp::{self, MutableTcpPacket, TcpFlags};
use pnet::packet::{MutablePacket, Packet};
use pnet::util::MacAddr;

use super::net::{End, FAR_UP, HOST_UP, Net};

/// The relay. Ends when it is dropped.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    pause: Duration,
    pauses: Mutex<Vec<Duration>>,
    stopped: AtomicBool,
}

type Port = (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>);

impl Relay {
    /// Takes over from the router. From now on connections take so much longer.
    pub(crate) fn start(net: &Net, pause: Duration) -> Self {
        net.router.sysctl("net/ipv4/ip_forward", "0");
        let shared = Arc::new(Shared { pause, pauses: Mutex::default(), stopped: AtomicBool::new(false) });
        let ((to_host, from_host), (to_far, from_far)) = net.router.enter(|| (port("down0"), port("down1")));
        let ways = [(from_host, to_far, FAR_UP), (from_far, to_host, HOST_UP)];
        let threads = ways.map(|(from, to, whom)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || carry(from, to, whom, &shared))
        });
        Self { shared, threads: threads.into() }
    }

    /// How long its pauses really were, in order.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.shared.pauses.lock().expect("whoever holds it does not panic").clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What panicked there has been shown.
            let _ = thread.join();
        }
    }
}

/// One of the router's own cables.
fn port(name: &str) -> Port {
    let interface = datalink::interfaces().into_iter().find(|interface| interface.name == name).expect("the router has it");
    let config = datalink::Config { read_timeout: Some(Duration::from_millis(50)), ..datalink::Config::default() };
    match datalink::channel(&interface, config).expect("root may open a packet socket") {
        Channel::Ethernet(to, from) => (to, from),
        _ => unreachable!("it is an Ethernet"),
    }
}

fn carry(mut from: Box<dyn DataLinkReceiver>, mut to: Box<dyn DataLinkSender>, whom: End, shared: &Shared) {
    let mac: MacAddr = whom.mac.parse().expect("a MAC address");
    while !shared.stopped.load(Ordering::Relaxed) {
        // An error is a time-out.
        let Ok(bytes) = from.next() else { continue };
        let mut frame = bytes.to_vec();
        if !is_for(&frame, whom) {
            continue;
        }
        if prepare(&mut frame, mac) == Some(TcpFlags::SYN | TcpFlags::ACK) {
            let begun = Instant::now();
            thread::sleep(shared.pause);
            shared.pauses.lock().expect("whoever holds it does not panic").push(begun.elapsed());
        }
        to.send_to(&frame, None).expect("a socket of the kernel's own").expect("the cable is plugged in");
    }
}

fn is_for(frame: &[u8], whom: End) -> bool {
    let address: Ipv4Addr = whom.ip.v4.parse().expect("an address");
    let ethernet = EthernetPacket::new(frame).filter(|frame| frame.get_ethertype() == EtherTypes::Ipv4);
    ethernet.is_some_and(|frame| Ipv4Packet::new(frame.payload()).is_some_and(|packet| packet.get_destination() == address))
}

/// Addresses a frame to its next hop, and completes its checksum, which the sender leaves to its network card; gives the
/// flags of TCP.
fn prepare(frame: &mut [u8], mac: MacAddr) -> Option<u8> {
    let mut ethernet = MutableEthernetPacket::new(frame)?;
    ethernet.set_destination(mac);
    let mut packet = MutableIpv4Packet::new(ethernet.payload_mut())?;
    if packet.get_next_level_protocol() != IpNextHeaderProtocols::Tcp {
        return None;
    }
    let (source, destination) = (packet.get_source(), packet.get_destination());
    // A short frame is padded beyond the end of its packet.
    let length = usize::from(packet.get_total_length()) - usize::from(packet.get_header_length()) * 4;
    let mut segment = MutableTcpPacket::new(&mut packet.payload_mut()[..length])?;
    segment.set_checksum(0);
    let checksum = tcp::ipv4_checksum(&segment.to_immutable(), &source, &destination);
    segment.set_checksum(checksum);
    Some(segment.get_flags())
}
