//! The rows of the comparison.

/// A figure, with its key in the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// Whether smaller is better.
    pub(crate) less: bool,
    pub(crate) show: fn(f64) -> String,
}

const fn more(key: &'static str, title: &'static str, show: fn(f64) -> String) -> Row {
    Row { key, title, less: false, show }
}

const fn less(key: &'static str, title: &'static str, show: fn(f64) -> String) -> Row {
    Row { key, title, less: true, show }
}

fn gigabits(value: f64) -> String {
    format!("{:.2} Gbit/s", value / 1e9)
}

fn microseconds(value: f64) -> String {
    format!("{:.0} µs", value * 1e6)
}

fn per_second(value: f64) -> String {
    format!("{value:.0} /s")
}

fn mebibytes(value: f64) -> String {
    format!("{:.2} MiB", value / f64::from(1 << 20))
}

/// In the order of the table.
pub(crate) const ROWS: [Row; 14] = [
    more("out_1", "TCP, guest to host, 1 stream", gigabits),
    more("out_8", "TCP, guest to host, 8 streams", gigabits),
    more("in_1", "TCP, host to guest, 1 stream", gigabits),
    more("in_8", "TCP, host to guest, 8 streams", gigabits),
    less("request_out_p50", "request from the guest, p50", microseconds),
    less("request_out_p99", "request from the guest, p99", microseconds),
    less("request_in_p50", "request to the guest, p50", microseconds),
    less("request_in_p99", "request to the guest, p99", microseconds),
    more("connect_out", "new connections from the guest", per_second),
    more("connect_in", "new connections to the guest", per_second),
    more("datagram_out", "datagrams of 64 bytes from the guest", per_second),
    more("datagram_in", "datagrams of 64 bytes to the guest", per_second),
    less("memory_1000", "memory for the first 1,000 flows", mebibytes),
    less("memory_all", "memory per 1,000 flows, many open", mebibytes),
];
