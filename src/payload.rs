//! What is sent to measure throughput: bytes that look random, so that nothing on the way makes them fewer, and that are
//! the same every time.

use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How many bytes are given at once; they repeat after so many.
pub const BLOCK: usize = 64 * 1024;

static BYTES: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0_u64;
    let numbers = std::iter::repeat_with(|| split_mix(&mut state)).take(BLOCK / 8);
    numbers.flat_map(u64::to_le_bytes).collect()
});

/// The next number of SplitMix64.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// So many bytes, block by block, none of them copied.
#[derive(Clone, Debug)]
pub struct Payload {
    left: u64,
}

impl Payload {
    /// So many bytes.
    pub fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }

    /// How many are left.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Iterator for Payload {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let length = self.left.min(BLOCK as u64);
        self.left -= length;
        (length > 0).then(|| BYTES.slice(..length as usize))
    }
}

/// As the body of a request, whose length is known from the start.
impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.next().map(|block| Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn so_many_bytes_come_and_the_same_every_time() {
        for length in [0, 1, BLOCK as u64, BLOCK as u64 + 1, 1_000_000] {
            let all: Vec<u8> = Payload::new(length).flatten().collect();
            assert_eq!(all.len() as u64, length);
            assert!(all.iter().eq(Payload::new(length).flatten().collect::<Vec<_>>().iter()));
        }
    }

    #[test]
    fn nothing_makes_them_fewer() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&Payload::new(BLOCK as u64).flatten().collect::<Vec<_>>()).unwrap();
        assert!(packed.finish().unwrap().len() > BLOCK);
    }
}
