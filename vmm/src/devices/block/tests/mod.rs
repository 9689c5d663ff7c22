//! The block device with drivers made by the tests.

mod requests;
mod ring;
