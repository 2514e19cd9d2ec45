//! What systemd is told (`Type=notify`). Without systemd all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// qosd measures.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload has begun; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
    }
}

/// qosd is stopping.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The line that `systemctl status` shows.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// All is well.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] has to be said: twice in the time that systemd waits.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}
