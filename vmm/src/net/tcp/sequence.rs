//! Sequence numbers, which wrap around (RFC 9293 §3.4).

use std::ops::{Add, Sub};

/// A TCP sequence number. Two of them can be compared if they are less than 2^31 apart. Windows below 1 GiB ensure that
/// for all that passed the check against the window; for others the result is arbitrary but defined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence(pub(super) u32);

impl Sequence {
    /// The distance from `other` to `self`, negative if `self` comes first.
    pub(super) fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    pub(super) fn is_before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    pub(super) fn is_after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// The bytes from `earlier` to `self`; 0 if `earlier` is not earlier.
    pub(super) fn since(self, earlier: Self) -> usize {
        usize::try_from(self.distance(earlier)).unwrap_or(0)
    }

    pub(super) fn max(self, other: Self) -> Self {
        if other.is_after(self) { other } else { self }
    }
}

impl Add<usize> for Sequence {
    type Output = Self;

    fn add(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes as u32))
    }
}

impl Sub<usize> for Sequence {
    type Output = Self;

    fn sub(self, bytes: usize) -> Self {
        Self(self.0.wrapping_sub(bytes as u32))
    }
}
