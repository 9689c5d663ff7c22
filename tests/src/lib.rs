//! Harness of the end-to-end suites: a real machine, driven by the unmodified docker client.
//!
//! A suite is one file in `tests/`, with one subject and one machine ([`suite`]). The machine ([`Machine`]) has a state
//! directory of its own in a short temporary path. It is started through the `rorqual` executable beside the tests, and
//! stopped and removed with the suite. Containers run an image created here ([`material`]); the tests never reach a
//! registry.
//!
//! The harness does not depend on Rorqual's internals; only the fault tests look for its processes ([`processes`]).

pub mod child;
pub mod command;
pub mod datagram;
pub mod docker;
pub mod document;
pub mod guest;
pub mod host_port;
pub mod load;
pub mod machine;
pub mod material;
pub mod namespace;
pub mod processes;
pub mod pseudo_terminal;
pub mod resolver;
pub mod series;
pub mod server;
pub mod stream;
pub mod suite;
pub mod usage;
pub mod wait;
pub mod web;

pub use command::{Execution, Run};
pub use docker::Container;
pub use machine::Machine;
pub use material::IMAGE;
pub use series::Series;
pub use server::Server;
pub use wait::{eventually, eventually_ok};
pub use web::Web;
