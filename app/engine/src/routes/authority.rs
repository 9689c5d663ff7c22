//! The local authority that signs certificates for names below [`DOMAIN`]. Its certificate is constrained to them (RFC
//! 5280 §4.2.1.10), so that trust in it extends no further. Its key never leaves the state directory.
//!
//! Key and certificate are one file, `https/authority.pem`, which is created atomically. `https/ca.pem` is the
//! certificate alone, for trust stores.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData,
};
use sha2::{Digest, Sha256};
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::DOMAIN;
use crate::{error::Coded, home::Home};

/// How long the authority is valid.
const LASTS: Duration = Duration::days(3650);
/// How long a name's certificate is valid. Systems refuse more than 398 days.
const LEAF_LASTS: Duration = Duration::days(90);
/// Clocks of clients may be this much behind.
const BEFORE: Duration = Duration::days(1);

/// Why the authority or a certificate of it is missing.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file does not hold a key with its certificate.
    #[error("{path} is damaged: {problem}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The defect.
        problem: String,
    },
    /// Something could not be signed.
    #[error("cannot make a certificate: {0}")]
    Sign(String),
}

impl Coded for AuthorityError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "authority-unusable",
            Self::Damaged { .. } => "authority-damaged",
            Self::Sign(_) => "authority-failed",
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Self::Io { path, .. } => {
                Some(format!("check the permissions of {} and the space on its disk", path.display()))
            }
            Self::Damaged { path, .. } => Some(format!(
                "remove {}, then trust the new authority, which Rorqual makes in its place, with `rorqual https trust`",
                path.display()
            )),
            Self::Sign(_) => None,
        }
    }
}

#[cfg(test)]
crate::error::tests::samples!(AuthorityError {
    Io => Self::Io { action: "read", path: "/h/https/authority.pem".into(), source: crate::error::tests::refusal() },
    Damaged => Self::Damaged { path: "/h/https/authority.pem".into(), problem: "it holds no key".to_owned() },
    Sign => Self::Sign("the name is too long".to_owned()),
});

/// The authority's files in a state directory.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// The files of `home`, whether they exist or not.
    pub fn of(home: &Home) -> Self {
        Self { directory: home.root().join("https") }
    }

    /// Key and certificate, 0600.
    pub fn key(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    /// The certificate alone, for trust stores.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }
}

/// An authority that can sign.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    name: String,
    /// The key of all names' certificates. It exists only in this process.
    leaf_key: KeyPair,
}

impl Authority {
    /// The authority of a state directory, made if none exists.
    ///
    /// # Errors
    ///
    /// When its files cannot be read or written, or are damaged.
    pub fn open(home: &Home) -> Result<Self, AuthorityError> {
        let files = Files::of(home);
        let path = files.key();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&files)?,
            other => other.map_err(|source| AuthorityError::Io { action: "read", path: path.clone(), source })?,
        };
        let authority = Self::read(&text).map_err(|problem| AuthorityError::Damaged { path, problem })?;
        authority.show(&files)?;
        Ok(authority)
    }

    fn read(text: &str) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| format!("no key: {error}"))?;
        let key = KeyPair::try_from(&key).map_err(|error| format!("the key is none: {error}"))?;
        let certificate =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| format!("no certificate: {error}"))?;
        // The subject follows from the key, so the issuer's name never changes.
        let key_bytes = key.subject_public_key_info();
        if !certificate.windows(key_bytes.len()).any(|window| window == key_bytes.as_slice()) {
            return Err("the certificate is not of this key".to_owned());
        }
        let name = name_of(&key);
        let leaf_key = KeyPair::generate().map_err(|error| error.to_string())?;
        let issuer = Issuer::new(parameters(&name, OffsetDateTime::UNIX_EPOCH), key);
        Ok(Self { issuer, certificate, name, leaf_key })
    }

    /// The name that trust stores show.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hexadecimal(&Sha256::digest(&self.certificate))
    }

    /// The certificate as PEM (RFC 7468).
    pub fn pem(&self) -> String {
        pem(&self.certificate)
    }

    /// Writes the certificate alone, unless it exists.
    fn show(&self, files: &Files) -> Result<(), AuthorityError> {
        let path = files.certificate();
        let pem = self.pem();
        if fs::read_to_string(&path).is_ok_and(|there| there == pem) {
            return Ok(());
        }
        let aside = path.with_extension("pem.new");
        let written = fs::write(&aside, pem).and_then(|()| fs::rename(&aside, &path));
        written.map_err(|source| AuthorityError::Io { action: "write", path, source })
    }

    /// A certificate for `name`, and the time it expires.
    ///
    /// # Errors
    ///
    /// When `name` is not a host name.
    pub(super) fn certify(
        &self,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<(OffsetDateTime, CertifiedKey), AuthorityError> {
        let failed = |error: &dyn std::error::Error| AuthorityError::Sign(error.to_string());
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).map_err(|error| failed(&error))?;
        // No client reads the subject, which holds at most 64 characters (RFC 5280 appendix A.1).
        parameters.distinguished_name = subject("Rorqual container");
        parameters.not_before = now - BEFORE;
        parameters.not_after = now + LEAF_LASTS;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&self.leaf_key, &self.issuer).map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::try_from(self.leaf_key.serialize_der())
            .map_err(|problem| AuthorityError::Sign(problem.to_owned()))?;
        let key = any_supported_type(&key).map_err(|error| failed(&error))?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok((parameters.not_after, CertifiedKey::new(chain, key)))
    }
}

/// Creates key and certificate. If two processes do so concurrently, both use the first result.
fn make(files: &Files) -> Result<String, AuthorityError> {
    let sign = |error: rcgen::Error| AuthorityError::Sign(error.to_string());
    let key = KeyPair::generate().map_err(sign)?;
    let certificate = parameters(&name_of(&key), OffsetDateTime::now_utc()).self_signed(&key).map_err(sign)?;
    let text = format!("{}{}", key.serialize_pem(), certificate.pem());
    let path = files.key();
    let write = |source| AuthorityError::Io { action: "write", path: path.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&files.directory).map_err(write)?;
    let aside = files.directory.join(format!("authority.{}.new", std::process::id()));
    write_private(&aside, &text).map_err(write)?;
    // Linking fails if another process created the file first.
    let placed = match fs::hard_link(&aside, &path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(write(error)),
        _ => fs::read_to_string(&path).map_err(write),
    };
    fs::remove_file(&aside).map_err(write)?;
    placed
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The parameters of the authority's certificate, from which its name as an issuer follows.
fn parameters(name: &str, now: OffsetDateTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = subject(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Kinds of names without a constraint stay permitted, so every address is excluded explicitly.
    parameters.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(DOMAIN.to_owned())],
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    parameters.not_before = now - BEFORE;
    parameters.not_after = now + LASTS;
    parameters
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Rorqual");
    subject.push(DnType::CommonName, name);
    subject
}

/// The name of an authority, which differs for each so that none is taken for another.
fn name_of(key: &KeyPair) -> String {
    let digest = Sha256::digest(key.public_key_raw());
    format!("Rorqual local authority {}", &hexadecimal(&digest)[..8])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = next;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        (parent, home)
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_its_owners() {
        let (_parent, home) = home();
        let first = Authority::open(&home).unwrap();
        let files = Files::of(&home);
        assert_eq!(fs::metadata(files.key()).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(files.certificate()).unwrap();
        let second = Authority::open(&home).unwrap();
        assert_eq!((first.fingerprint(), first.name()), (second.fingerprint(), second.name()));
        assert_eq!(fs::read_to_string(files.certificate()).unwrap(), first.pem());
        assert!(!first.pem().contains("PRIVATE"));
        assert_eq!(fs::read_dir(files.directory).unwrap().count(), 2);
    }

    #[test]
    fn a_damaged_authority_is_named_and_kept() {
        let (_parent, home) = home();
        Authority::open(&home).unwrap();
        let path = Files::of(&home).key();
        let whole = fs::read_to_string(&path).unwrap();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let certificate = &whole[whole.find("-----BEGIN CERTIFICATE").unwrap()..];
        for damaged in [String::new(), whole[..200].to_owned(), format!("{other}{certificate}")] {
            fs::write(&path, &damaged).unwrap();
            let error = Authority::open(&home).unwrap_err();
            assert!(error.to_string().contains("authority.pem is damaged"), "{error}");
            assert!(error.fix().unwrap().starts_with("remove "), "{error:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
