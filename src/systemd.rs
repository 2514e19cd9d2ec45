//! What systemd is told (`Type=notify`). Without systemd all of it does nothing.
//!
//! The socket is written on a thread of its own: whoever stands at its other end and does not read must not hold up
//! qosd. What does not fit into the queue is dropped, so then the watchdog is not fed either, and systemd finds out.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::config::Env;

/// Messages that may wait for the socket.
const QUEUE: usize = 16;

/// Says how things are.
pub struct Systemd(Option<SyncSender<Message>>);

enum Message {
    Ready(String),
    Reloading,
    Stopping,
    Status(String),
    Alive,
}

impl Systemd {
    /// Speaks to whoever started this process, if they listen.
    pub fn connect(env: &Env) -> Self {
        if !env.contains_key("NOTIFY_SOCKET") {
            return Self(None);
        }
        let (sender, messages) = sync_channel(QUEUE);
        match std::thread::Builder::new().name("systemd".into()).spawn(move || pass_on(&messages)) {
            Ok(_) => Self(Some(sender)),
            Err(error) => {
                tracing::warn!(%error, "systemd will not be told anything");
                Self(None)
            }
        }
    }

    /// qosd measures.
    pub fn ready(&self, status: &str) {
        self.tell(Message::Ready(status.to_owned()));
    }

    /// A reload has begun; [`Systemd::ready`] ends it.
    pub fn reloading(&self) {
        self.tell(Message::Reloading);
    }

    /// qosd is stopping.
    pub fn stopping(&self) {
        self.tell(Message::Stopping);
    }

    /// The line that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.tell(Message::Status(status.to_owned()));
    }

    /// All is well.
    pub fn alive(&self) {
        self.tell(Message::Alive);
    }

    fn tell(&self, message: Message) {
        if let Some(sender) = &self.0
            && sender.try_send(message).is_err()
        {
            tracing::debug!("systemd does not listen");
        }
    }
}

/// How often [`Systemd::alive`] has to be said: twice in the time that systemd waits.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

fn pass_on(messages: &Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        let sent = match &message {
            Message::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
            Message::Reloading => NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
            Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
            Message::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
            Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "systemd cannot be told");
        }
    }
}
