//! Published ports, on the guest's side.
//!
//! dockerd starts a port proxy for each port it publishes ([`proxy`]). Its [`request`] is served inside the guest
//! ([`local`]) and passed to the host through the shared ports ([`published`]), whose rules are a [`table`]. Most ports
//! are asked for a moment earlier, when dockerd adds its rule ([`reserved`]); for the others, the agent opens the
//! firewall ([`doors`]). The host's call is a [`session`]: it receives changes and returns verdicts, which become
//! dockerd's answers. Listeners of containers on the host's network ([`host_network`]) and of swarm services
//! ([`ingress`]) are published without a proxy.

mod doors;
mod host_network;
mod ingress;
mod local;
mod local_datagrams;
mod proxy;
mod published;
mod request;
mod reserved;
mod session;
mod table;
mod transport;

pub(crate) use doors::Door;
pub(crate) use host_network::publish as publish_host_network;
pub(crate) use ingress::Ingress;
pub(crate) use proxy::{SOCKET, serve as serve_proxies};
pub(crate) use published::Ports;
pub(crate) use request::PublishRequest;
pub(crate) use session::Session;
pub(crate) use transport::Transport;
