//! Guests that break the rules: an error or a reset, never a panic, never a byte outside of their memory.
