//! How a piece becomes bytes and back. Pure.
//!
//! Numbers are varints, figures 32-bit floats, little-endian. A digest has one of three forms: all its values are the same, as
//! with a loss of 0; each of its rows has one value, so that its marks are all; or everything is written.

use super::digest::{Digest, MARKS};
use super::piece::{Bucket, Piece, Places};
use super::sample::FIELDS;
use super::track::{Run, Track};
use crate::journal::{Position, put_varint, take_varint};
use crate::probe::Outcome;

/// The forms of a digest, above the place of its field.
const SAME: u8 = 0;
const MARKED: u8 = 1;
const WHOLE: u8 = 2;
/// Bits of the place of a field.
const PLACE: u8 = 5;

/// The bytes of a piece.
pub(super) fn pack(piece: &Piece) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048);
    put(&mut out, piece.words.len());
    for word in &piece.words {
        put(&mut out, word.len());
        out.extend_from_slice(word.as_bytes());
    }
    pack_track(&mut out, &piece.states);
    pack_track(&mut out, &piece.addresses);
    put(&mut out, piece.steps.len());
    for (at, step) in &piece.steps {
        put_varint(&mut out, u64::from(*at));
        put_float(&mut out, *step);
    }
    put(&mut out, piece.buckets.len());
    for (number, bucket) in &piece.buckets {
        out.push(*number);
        pack_bucket(&mut out, bucket);
    }
    out
}

fn pack_track(out: &mut Vec<u8>, track: &Track) {
    put(out, track.runs().len());
    for run in track.runs() {
        put_varint(out, u64::from(run.from));
        put_varint(out, u64::from(run.until.saturating_sub(run.from)));
        put_varint(out, u64::from(run.value));
    }
}

fn pack_bucket(out: &mut Vec<u8>, bucket: &Bucket) {
    put(out, bucket.outcomes.len());
    for (outcome, rows) in &bucket.outcomes {
        out.push(outcome.code() as u8);
        put_varint(out, u64::from(*rows));
    }
    put_varint(out, u64::from(bucket.loaded));
    put(out, bucket.digests.len());
    for (field, digest) in &bucket.digests {
        let form = form(digest);
        out.push(*field | form << PLACE);
        put_varint(out, u64::from(digest.rows));
        match form {
            SAME => put_float(out, digest.min),
            MARKED => digest.marks().iter().for_each(|mark| put_float(out, *mark)),
            _ => {
                let figures = [digest.min, digest.max, digest.mean as f32];
                figures.iter().chain(digest.marks()).for_each(|figure| put_float(out, *figure));
            }
        }
    }
}

fn form(digest: &Digest) -> u8 {
    let marks = digest.marks();
    let (first, last) = (marks.first().copied(), marks.last().copied());
    let close = |mean: f64| (digest.mean - mean).abs() <= mean.abs() * f64::from(f32::EPSILON);
    let at_ends = first == Some(digest.min) && last == Some(digest.max);
    if at_ends && digest.min.to_bits() == digest.max.to_bits() && close(f64::from(digest.min)) {
        SAME
    } else if at_ends && digest.rows as usize <= MARKS && close(mean(marks)) {
        MARKED
    } else {
        WHOLE
    }
}

fn mean(marks: &[f32]) -> f64 {
    marks.iter().map(|mark| f64::from(*mark)).sum::<f64>() / marks.len() as f64
}

/// What [`pack`] made; none if it is not exactly that.
pub(super) fn unpack(mut bytes: &[u8]) -> Option<Piece> {
    let from = &mut bytes;
    let words = (0..count(from)?).map(|_| {
        let length = usize::try_from(take_varint(from)?).ok()?;
        str::from_utf8(take(from, length)?).ok().map(str::to_owned)
    });
    let words = words.collect::<Option<_>>()?;
    let (states, addresses) = (unpack_track(from)?, unpack_track(from)?);
    let steps = (0..count(from)?).map(|_| Some((number(from)?, float(from)?))).collect::<Option<_>>()?;
    let buckets = (0..count(from)?).map(|_| Some((take(from, 1)?[0], unpack_bucket(from)?))).collect::<Option<_>>()?;
    bytes.is_empty().then_some(Piece { buckets, states, addresses, steps, words })
}

fn unpack_track(from: &mut &[u8]) -> Option<Track> {
    let count = count(from)?;
    let run = |_| {
        let (start, length, value) = (number(from)?, number(from)?, number(from)?);
        Some(Run { from: start, until: start.checked_add(length)?, value: u16::try_from(value).ok()? })
    };
    (0..count).map(run).collect::<Option<_>>().map(Track::new)
}

fn unpack_bucket(from: &mut &[u8]) -> Option<Bucket> {
    let outcomes = (0..count(from)?).map(|_| {
        let code = i64::from(take(from, 1)?[0]);
        Some((Outcome::ALL.into_iter().find(|outcome| outcome.code() == code)?, number(from)?))
    });
    let outcomes = outcomes.collect::<Option<_>>()?;
    let loaded = number(from)?;
    let digests = (0..count(from)?).map(|_| unpack_digest(from)).collect::<Option<_>>()?;
    Some(Bucket { outcomes, loaded, digests })
}

fn unpack_digest(from: &mut &[u8]) -> Option<(u8, Digest)> {
    let head = take(from, 1)?[0];
    let (field, form) = (head & ((1 << PLACE) - 1), head >> PLACE);
    if usize::from(field) >= FIELDS.len() {
        return None;
    }
    let rows = number(from)?;
    let known = MARKS.min(rows as usize);
    let digest = match form {
        SAME => {
            let value = float(from)?;
            Digest::new(rows, (value, value, f64::from(value)), &[value; MARKS][..known])
        }
        MARKED => {
            let marks = floats(from, known)?;
            Digest::new(rows, (*marks.first()?, *marks.last()?, mean(&marks)), &marks)
        }
        WHOLE => {
            let (min, max, mean) = (float(from)?, float(from)?, float(from)?);
            Digest::new(rows, (min, max, f64::from(mean)), &floats(from, known)?)
        }
        _ => return None,
    };
    Some((field, digest))
}

/// The bytes of the places of rows: for each bucket the first position, then how far each is behind the one before.
pub(super) fn pack_places(places: &Places) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    for (bucket, positions) in &places.0 {
        out.push(*bucket);
        put(&mut out, positions.len());
        let mut before = 0;
        for Position(position) in positions {
            put_varint(&mut out, position.saturating_sub(before));
            before = *position;
        }
    }
    out
}

/// What [`pack_places`] made; none if it is not that.
pub(super) fn unpack_places(mut bytes: &[u8]) -> Option<Places> {
    let mut places = Places::default();
    while !bytes.is_empty() {
        let bucket = take(&mut bytes, 1)?[0];
        let count = count(&mut bytes)?;
        let mut before = 0_u64;
        let position = |_| {
            before = before.checked_add(take_varint(&mut bytes)?)?;
            Some(Position(before))
        };
        places.0.insert(bucket, (0..count).map(position).collect::<Option<_>>()?);
    }
    Some(places)
}

fn put(out: &mut Vec<u8>, count: usize) {
    put_varint(out, count as u64);
}

fn put_float(out: &mut Vec<u8>, value: f32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// How many follow: no more than there are bytes.
fn count(from: &mut &[u8]) -> Option<usize> {
    let count = usize::try_from(take_varint(from)?).ok()?;
    (count <= from.len()).then_some(count)
}

fn number(from: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(from)?).ok()
}

fn float(from: &mut &[u8]) -> Option<f32> {
    Some(f32::from_le_bytes(take(from, 4)?.try_into().ok()?))
}

fn floats(from: &mut &[u8], count: usize) -> Option<Vec<f32>> {
    (0..count).map(|_| float(from)).collect()
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::piece::tests::sample;
    use super::*;

    proptest! {
        #[test]
        fn a_piece_reads_back_as_it_was(rows in prop::collection::vec(sample(), 0..200)) {
            let mut piece = Piece::default();
            piece.add(&rows);
            let found = unpack(&pack(&piece)).unwrap();
            prop_assert_eq!((&found.words, &found.states, &found.addresses, &found.steps), (&piece.words, &piece.states, &piece.addresses, &piece.steps));
            prop_assert_eq!(found.buckets.len(), piece.buckets.len());
            for ((number, found), (expected_number, expected)) in found.buckets.iter().zip(&piece.buckets) {
                prop_assert_eq!((number, &found.outcomes, found.loaded), (expected_number, &expected.outcomes, expected.loaded));
                for ((field, found), (expected_field, expected)) in found.digests.iter().zip(&expected.digests) {
                    prop_assert_eq!((field, found.rows, found.min, found.max, found.marks()), (expected_field, expected.rows, expected.min, expected.max, expected.marks()));
                    prop_assert!((found.mean - expected.mean).abs() <= expected.mean.abs() * 1e-6);
                }
            }
        }

        #[test]
        fn places_read_back_as_they_were(positions in prop::collection::btree_map(0..24_u8, prop::collection::btree_set(1..u64::from(u32::MAX), 0..20), 0..24)) {
            let places = Places(positions.into_iter().map(|(bucket, positions)| (bucket, positions.into_iter().map(Position).collect())).collect());
            prop_assert_eq!(unpack_places(&pack_places(&places)), Some(places));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            unpack(&bytes);
            unpack_places(&bytes);
        }
    }
}
