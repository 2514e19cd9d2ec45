//! The right to open raw sockets, given away as soon as they are open.

use caps::CapSet;

/// Drops every capability of this thread, and so of all threads that it starts later. Open sockets stay open.
pub fn drop_capabilities() {
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        if let Err(error) = caps::clear(None, set) {
            tracing::warn!(?set, %error, "capabilities cannot be dropped");
        }
    }
}
