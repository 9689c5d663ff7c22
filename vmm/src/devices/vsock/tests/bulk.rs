//! Much data and many streams.
