//! TLS for every name below the domain. A certificate is made when a client first names it (SNI, RFC 6066 §3).

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::{net::TcpStream, sync::OnceCell, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
    server::TlsStream,
};

use super::{
    authority::{Authority, AuthorityError},
    names,
};
use crate::home::Home;

/// A client's handshake takes at most this long.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Certificates kept, since a client may ask for any number of names.
const KEPT: usize = 256;
/// A certificate is renewed when it is valid for less than this.
const LEFT: time::Duration = time::Duration::days(1);

/// The state of TLS, made at first use.
pub(super) struct Tls {
    home: Home,
    acceptor: OnceCell<TlsAcceptor>,
}

impl Tls {
    pub(super) fn new(home: Home) -> Self {
        Self { home, acceptor: OnceCell::new() }
    }

    /// Makes the handshake.
    ///
    /// # Errors
    ///
    /// When the authority cannot be read or made, or the client does not speak TLS or names no name of the domain.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = self.acceptor.get_or_try_init(|| self.open()).await?;
        timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await?
    }

    async fn open(&self) -> io::Result<TlsAcceptor> {
        let home = self.home.clone();
        let authority = tokio::task::spawn_blocking(move || Authority::open(&home)).await?.map_err(|error| {
            tracing::error!("no HTTPS for containers: {error}");
            io::Error::other(error)
        })?;
        let certificates = Arc::new(Certificates { authority, made: Mutex::default() });
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// The certificates made so far, by name.
#[derive(Debug)]
struct Certificates {
    authority: Authority,
    made: Mutex<HashMap<String, (OffsetDateTime, Arc<CertifiedKey>)>>,
}

impl Certificates {
    fn of(&self, name: &str, now: OffsetDateTime) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((ends, certificate)) = made.get(name)
            && *ends - now > LEFT
        {
            return Ok(Arc::clone(certificate));
        }
        let (ends, certificate) = self.authority.certify(name, now)?;
        let certificate = Arc::new(certificate);
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(name.to_owned(), (ends, Arc::clone(&certificate)));
        Ok(certificate)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        names::wanted(&name)?;
        match self.of(&name, OffsetDateTime::now_utc()) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                tracing::warn!("no certificate for {name}: {error}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_again_before_it_ends() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let authority = Authority::open(&home).unwrap();
        let certificates = Certificates { authority, made: Mutex::default() };
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let first = certificates.of("web.rorqual.localhost", now).unwrap();
        assert!(Arc::ptr_eq(&first, &certificates.of("web.rorqual.localhost", now).unwrap()));
        let later = now + time::Duration::days(365);
        assert!(!Arc::ptr_eq(&first, &certificates.of("web.rorqual.localhost", later).unwrap()));
        for number in 0..2 * KEPT {
            certificates.of(&format!("n{number}.rorqual.localhost"), now).unwrap();
        }
        assert!(certificates.made.lock().unwrap().len() <= KEPT);
    }
}
