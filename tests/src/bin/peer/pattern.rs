//! The test pattern as an answer.

use std::io::Write;

use anyhow::Result;
use rorqual_tests::stream::Pattern;

/// Writes the first `left` bytes of the pattern.
pub(crate) fn send(output: &mut impl Write, mut left: u64) -> Result<()> {
    let mut pattern = Pattern::default();
    let mut buffer = vec![0; 256 * 1024];
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        pattern.fill(&mut buffer[..part]);
        output.write_all(&buffer[..part])?;
        left -= part as u64;
    }
    Ok(output.flush()?)
}
