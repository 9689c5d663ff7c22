//! The bytes of a program, read one choice after the other. At its end everything reads as zero.

/// What is left of a program.
#[derive(Clone, Debug)]
pub struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    /// A program of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn ended(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(count.min(self.0.len()));
        self.0 = later;
        now
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// True or false.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// A number below `count`, which is at most 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// 16 bits.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// 32 bits.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// 64 bits.
    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A length: mostly small, sometimes at an edge, sometimes anything.
    pub fn length(&mut self) -> u32 {
        match self.byte() {
            0..=127 => u32::from(self.byte()),
            128..=191 => u32::from(self.short()),
            192..=223 => {
                [0, 1, 16, 43, 44, 45, 512, 4096, 0xffff, 0x1_0000, 0x1_0001, u32::MAX, u32::MAX - 1, 1 << 31, 255, 256]
                    [self.below(16)]
            }
            _ => self.word(),
        }
    }
}
