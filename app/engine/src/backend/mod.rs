//! What the window shows and does: typed calls and streams over the daemon and the Docker Engine.
//!
//! Both transports (the desktop application's, and HTTP with a WebSocket for browsers) carry the same [`contract`], so
//! the same pages run on either.

pub mod contract;
