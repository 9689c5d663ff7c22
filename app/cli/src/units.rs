//! Formats numbers for people.

/// Bytes in binary units with at most one decimal: `512 MiB`, `1.4 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    // Tenths of the unit, which avoids floating point.
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if tenth == 0 { format!("{whole} {}", UNITS[unit]) } else { format!("{whole}.{tenth} {}", UNITS[unit]) }
}

/// Milliseconds as seconds with one decimal: `0.8 s`.
pub(crate) fn milliseconds(count: u64) -> String {
    let tenths = (count + 50) / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// Whole seconds in the two largest units: `3 h 12 min`, `45 s`.
pub(crate) fn seconds(count: u64) -> String {
    let (days, hours, minutes) = (count / 86_400, count / 3_600 % 24, count / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{count} s"),
        (0, 0, _) => format!("{minutes} min {} s", count % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_use_the_largest_unit_that_is_at_least_one() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (2 << 30, "2 GiB"),
            ((64 << 30) + (512 << 20), "64.5 GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert!(bytes(u64::MAX).ends_with(" TiB"));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(milliseconds(11_249), "11.2 s");
        assert_eq!(seconds(45), "45 s");
        assert_eq!(seconds(185), "3 min 5 s");
        assert_eq!(seconds(11_520), "3 h 12 min");
        assert_eq!(seconds(90_000), "1 d 1 h");
    }
}
