//! What the end of a run says about the target: one table for charts, the board and the matrix. Pure.

use super::Outcome;

/// What the end of a run says about the target and the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It answered, at least in part.
    Answered,
    /// It did not, or not what was expected.
    Failed,
    /// Nothing: this host could not, or did not, measure.
    Nothing,
}

impl Outcome {
    /// What this end says.
    pub fn says(self) -> Says {
        match self {
            Self::Ok | Self::Partial => Says::Answered,
            Self::Timeout
            | Self::Unreachable
            | Self::Prohibited
            | Self::TtlExceeded
            | Self::DnsError
            | Self::Refused
            | Self::TlsError
            | Self::BadStatus
            | Self::BodyTooLarge
            | Self::Killed => Says::Failed,
            Self::Busy | Self::ToolMissing | Self::ToolError | Self::Permission | Self::LocalError | Self::Skipped | Self::PeerAbsent => {
                Says::Nothing
            }
        }
    }
}
