//! The limits of a splice.

/// Limits of a splice.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest IP packet on the guest's link, in bytes; at least 1280. Large segments are many times that.
    pub mtu: u16,
    /// Window offered to the guest per flow, in bytes; 64 KiB to 8 MiB.
    pub window: usize,
    /// Most flows. Each takes about 100 bytes at rest and half a KiB otherwise, besides what is buffered.
    pub max_flows: usize,
    /// Most of these flows that may still be connecting.
    pub max_half_open: usize,
    /// Most bytes that all flows together buffer for hosts that do not take them.
    pub max_buffered: usize,
    /// Most flows at rest that stay awake: flows that take turns with their hosts rest between any two packets.
    pub max_awake: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mtu: 1500,
            window: 512 << 10,
            max_flows: 16384,
            max_half_open: 2048,
            max_buffered: 64 << 20,
            max_awake: 16,
        }
    }
}
