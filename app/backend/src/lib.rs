//! The backend of the window: typed calls and streams over the daemon and the Docker Engine.
//!
//! Both transports (the desktop application's, and HTTP with a WebSocket for browsers) carry the same [`contract`], so
//! the same pages run on either. A [`Backend`] lives in the process that serves the pages. It holds no state of the
//! engine: each call queries the engine, and each stream is a task that ends when its reader leaves. Output waits for
//! the reader ([`stream`]), so a fast log costs no memory.

mod app;
mod backend;
mod build;
mod changes;
mod commandline;
mod containers;
pub mod contract;
mod diagnose;
mod dispatch;
mod failure;
mod files;
mod images;
mod inner;
mod labels;
mod lists;
mod logs;
mod machine;
mod networks;
mod pull;
mod registries;
mod run;
mod samples;
mod settings;
mod size;
pub mod stream;
mod terminal;
mod users;
mod volumes;

pub use backend::Backend;
pub(crate) use inner::Inner;
