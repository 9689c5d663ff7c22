//! Reads of a configuration space (virtio 1.3 §2.5).

/// Fills `data` with the bytes of `space` from `offset` on. Bytes beyond the end of the space read as zero.
pub(crate) fn read(space: &[u8], offset: u64, data: &mut [u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(space.len());
    let (inside, beyond) = data.split_at_mut((space.len() - start).min(data.len()));
    inside.copy_from_slice(&space[start..start + inside.len()]);
    beyond.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_end_read_as_zero() {
        for (offset, expected) in [(0, [1, 2]), (2, [3, 0]), (3, [0, 0]), (u64::MAX, [0, 0])] {
            let mut data = [0xff; 2];
            read(&[1, 2, 3], offset, &mut data);
            assert_eq!(data, expected, "at {offset}");
        }
    }
}
