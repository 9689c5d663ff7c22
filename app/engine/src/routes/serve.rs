//! The requests of one connection: their container is found, access is checked, and the answer passed back.

use std::{convert::Infallible, net::IpAddr, path::Path, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::Incoming,
    header::{HOST, HeaderValue, UPGRADE},
    http::uri::Authority,
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    DOMAIN, Scheme,
    directory::Directory,
    error::RouteError,
    guard, headers,
    names::{self, Wanted},
    pages::{self, Answer},
    table::{Entry, Table},
    upstream::{self, ConnectError, Upstream},
    url,
};
use crate::{
    docker::Docker,
    error::root_cause,
    splice::{self, Direction},
};

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Most fields of a request's head.
const MAX_FIELDS: usize = 128;
/// A head arrives within this. An idle connection is closed after this too.
const HEAD_LIMIT: Duration = Duration::from_mins(1);

/// What all connections share.
pub(super) struct Server {
    directory: Directory,
    upstream: Upstream,
}

/// The origin of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) client: IpAddr,
    pub(super) scheme: Scheme,
    /// The port the client connected to.
    pub(super) port: u16,
}

impl Server {
    /// Serves the machine behind `vsock_socket`, whose engine `docker` reaches.
    pub(super) fn new(docker: Docker, vsock_socket: &Path) -> Self {
        Self { directory: Directory::new(docker), upstream: upstream::client(vsock_socket) }
    }

    /// Serves a connection to its end.
    ///
    /// # Errors
    ///
    /// When the client left early or does not speak HTTP.
    pub(super) async fn connection(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        arrival: Arrival,
    ) -> Result<(), hyper::Error> {
        let service = service_fn(|request| {
            let server = Arc::clone(self);
            async move { Ok::<_, Infallible>(server.answer(request, arrival).await) }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_FIELDS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
    }

    async fn answer(&self, request: Request<Incoming>, arrival: Arrival) -> Answer {
        let list = url(arrival.scheme, DOMAIN, arrival.port);
        let asked = request.headers().clone();
        let answered = match wanted(&request, &list) {
            Err(error) => Err(error),
            Ok((Wanted::List, _)) => self.list(&request, arrival).await,
            Ok((Wanted::Container(name), host)) => self.ask(request, &name, &host, arrival).await,
        };
        answered.unwrap_or_else(|error| pages::problem(&error, &asked, &list))
    }

    async fn list(&self, request: &Request<Incoming>, arrival: Arrival) -> Result<Answer, RouteError> {
        if request.uri().path() != "/" {
            return Err(RouteError::NotFound);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(RouteError::ListReadOnly);
        }
        let table = self.directory.fresh().await?;
        Ok(pages::list(request.headers(), &table.running(), arrival.scheme, arrival.port))
    }

    /// Passes a request on to a container, and its answer back.
    async fn ask(
        &self,
        mut request: Request<Incoming>,
        name: &str,
        host: &Authority,
        arrival: Arrival,
    ) -> Result<Answer, RouteError> {
        let mut table = self.directory.known().await?;
        if table.find(name).and_then(Entry::target).is_none() {
            // The container may have just started, with its event still on the way.
            table = self.directory.fresh().await?;
        }
        let entry = table.find(name).ok_or_else(|| RouteError::Unknown(name.to_owned()))?;
        let target = entry.target().ok_or_else(|| cannot_answer(entry))?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = format!("http://{target}{path}").parse::<Uri>();
        *request.uri_mut() =
            uri.map_err(|error| bad_request(format!("the address of the request is not one: {error}")))?;
        *request.version_mut() = Version::HTTP_11;
        let upgrade = headers::upgrade(request.headers());
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        headers::pass_on(request.headers_mut(), upgrade);
        headers::tell_sender(request.headers_mut(), arrival.client, arrival.scheme);
        if let Ok(host) = HeaderValue::from_str(host.as_str()) {
            request.headers_mut().insert(HOST, host);
        }
        match self.upstream.request(request).await {
            Ok(answer) => Ok(pass_back(answer, client)),
            Err(error) => match ConnectError::of(&error) {
                Some(ConnectError::Container(reason)) => {
                    // If the container changed during the request, its present state is the reason.
                    let now = self.directory.fresh().await.unwrap_or(table);
                    Err(does_not_listen(&now, name, reason))
                }
                Some(error) => Err(RouteError::Machine(error.to_string())),
                None => Err(RouteError::BrokeOff { name: name.to_owned(), reason: root_cause(&error) }),
            },
        }
    }
}

/// Passes a container's answer to the client and, after an upgrade, the bytes of both.
fn pass_back(mut answer: Response<Incoming>, client: Option<OnUpgrade>) -> Answer {
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = answer.headers().get(UPGRADE).filter(|_| switched).cloned();
    if let (true, Some(client)) = (switched, client) {
        tokio::spawn(join(client, hyper::upgrade::on(&mut answer)));
    }
    headers::pass_on(answer.headers_mut(), protocol);
    *answer.version_mut() = Version::HTTP_11;
    answer.map(BodyExt::boxed)
}

/// Carries the bytes after an upgrade until both directions have ended.
async fn join(client: OnUpgrade, container: OnUpgrade) {
    let joined = async {
        let (client, container) = tokio::try_join!(client, container).map_err(std::io::Error::other)?;
        let (mut client_reader, mut client_writer) = tokio::io::split(TokioIo::new(client));
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(container));
        splice::both_ways((&mut client_reader, &mut client_writer), (&mut reader, &mut writer), Direction::default())
            .await
    };
    if let Err(error) = joined.await {
        tracing::debug!("an upgraded connection to a container ended: {error}");
    }
}

/// The target of a request, and the name used for it. Refuses foreign names and requests of foreign pages.
fn wanted(request: &Request<Incoming>, list: &str) -> Result<(Wanted, Authority), RouteError> {
    if *request.method() == Method::CONNECT {
        return Err(RouteError::NoProxy);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (request.uri().authority(), hosts.next(), hosts.next()) {
        // The request's target takes precedence over the field (RFC 9112 §3.2.2).
        (Some(authority), ..) => Some(authority.clone()),
        (None, Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()),
        _ => None,
    };
    let host: Authority = host.ok_or_else(|| bad_request("the request names no host, or several"))?;
    let foreign = || RouteError::NameForeign { host: host.host().to_owned(), list: list.to_owned() };
    let wanted = names::wanted(host.host()).ok_or_else(foreign)?;
    if guard::is_foreign(request.method(), request.headers()) {
        return Err(RouteError::OriginForeign);
    }
    Ok((wanted, host))
}

fn bad_request(message: impl Into<String>) -> RouteError {
    RouteError::BadRequest(message.into())
}

/// Why an existing container has no address to connect to.
fn cannot_answer(entry: &Entry) -> RouteError {
    let name = entry.name.clone();
    if entry.state == "paused" {
        return RouteError::Paused(name);
    }
    if !entry.runs() {
        return RouteError::Stopped { name, state: entry.state.clone() };
    }
    match &entry.port {
        Err(label) => RouteError::LabelInvalid { name, label: label.clone() },
        Ok(_) => RouteError::WithoutNetwork(name),
    }
}

/// The container exists and refused.
fn does_not_listen(now: &Table, name: &str, reason: &str) -> RouteError {
    let Some(entry) = now.find(name) else { return RouteError::Unknown(name.to_owned()) };
    let (Some(_), Ok(port)) = (entry.target(), &entry.port) else { return cannot_answer(entry) };
    let others = entry.exposed.iter().copied().filter(|exposed| exposed != port).collect();
    RouteError::NotListening { name: entry.name.clone(), port: *port, reason: reason.to_owned(), others }
}
