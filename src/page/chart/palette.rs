//! The colours of charts, one for each role. The style sheet knows them, and has others for them in the dark.

use plotters::style::RGBColor;

/// What all is drawn on.
pub(super) const BACKGROUND: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// Words, figures, axes.
pub(super) const TEXT: RGBColor = RGBColor(0x1f, 0x29, 0x33);
/// The lines of the grid.
pub(super) const GRID: RGBColor = RGBColor(0xd9, 0xde, 0xe3);
/// From the smallest to the largest.
pub(super) const BAND: RGBColor = RGBColor(0xd6, 0xe4, 0xf0);
/// What is usual.
pub(super) const SHADE: RGBColor = RGBColor(0x9c, 0xc0, 0xdd);
/// The middle, without loss.
pub(super) const MEDIAN: RGBColor = RGBColor(0x0b, 0x53, 0x94);
/// A little loss.
pub(super) const LOSS_LOW: RGBColor = RGBColor(0xf2, 0xc1, 0x4e);
/// Some loss.
pub(super) const LOSS_MID: RGBColor = RGBColor(0xe0, 0x7b, 0x39);
/// Much loss, up to all.
pub(super) const LOSS_HIGH: RGBColor = RGBColor(0xb3, 0x26, 0x1e);
/// Where nothing was measured. An area of this colour is hatched.
pub(super) const GAP: RGBColor = RGBColor(0xb8, 0xbe, 0xc5);
/// Where nobody looked yet.
pub(super) const UNSEEN: RGBColor = RGBColor(0xe9, 0xec, 0xef);
/// While a throughput test of ours ran.
pub(super) const LOADED: RGBColor = RGBColor(0xef, 0xe3, 0xf7);
/// Something happened.
pub(super) const EVENT: RGBColor = RGBColor(0x6b, 0x4f, 0xa0);
/// The phases of an HTTP request, in their order; other lines beside the first take theirs from here, too.
pub(super) const DNS: RGBColor = RGBColor(0x6b, 0xae, 0xd6);
pub(super) const CONNECT: RGBColor = RGBColor(0x74, 0xc4, 0x76);
pub(super) const TLS: RGBColor = RGBColor(0xfd, 0x8d, 0x3c);
pub(super) const FIRST_BYTE: RGBColor = RGBColor(0x9e, 0x9a, 0xc8);
pub(super) const TRANSFER: RGBColor = RGBColor(0x63, 0x63, 0x63);

/// How a colour is written, as the style sheet has it.
pub(super) fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// The colour of a share that was lost, in per cent.
pub(super) fn of_loss(pct: f64) -> RGBColor {
    match pct {
        _ if pct <= 0.0 => MEDIAN,
        _ if pct <= LITTLE => LOSS_LOW,
        _ if pct <= SOME => LOSS_MID,
        _ => LOSS_HIGH,
    }
}

/// Up to here, in per cent, loss counts as little.
pub(super) const LITTLE: f64 = 5.0;
/// Up to here as some.
pub(super) const SOME: f64 = 25.0;
