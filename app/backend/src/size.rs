//! Sizes in bytes as text.

/// In powers of 1000, as docker prints them: `1.2 MB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut divisor = 1_u64;
    while unit + 1 < UNITS.len() && count / divisor >= 1000 {
        unit += 1;
        divisor *= 1000;
    }
    let (whole, rest) = (count / divisor, count % divisor);
    if unit == 0 || whole >= 100 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{} {}", rest / (divisor / 10), UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_docker_writes_them() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_250_000, "1.2 MB"),
            (123_456_789, "123 MB"),
            (64 << 30, "68.7 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
