//! The right to open raw sockets, given away as soon as they are open.

use caps::CapSet;

/// Drops every capability of this thread, and so of all threads that it starts later. Open sockets stay open.
pub fn drop_capabilities() {
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        // Where there is none, not even asking may be allowed.
        if caps::read(None, set).is_ok_and(|held| held.is_empty()) {
            continue;
        }
        if let Err(error) = caps::clear(None, set) {
            tracing::warn!(?set, %error, "capabilities cannot be dropped");
        }
    }
}
