//! Every error of the engine, walked through the form of failures.

use std::{collections::BTreeMap, fs, path::Path};

use super::{Coded, Failure, form};
use crate::{
    client::ClientError,
    config::ConfigError,
    daemon::{DaemonError, RequestError},
    disk::DiskError,
    docker::DockerError,
    home::{BadMachineName, HomeError},
    image::ImageError,
    machine::{AcceleratorError, DaemonEnding, NotRunning, StartError, SuspendError, VmmError},
    ports::PortError,
    routes::{RouteError, authority::AuthorityError},
};

/// An error type with one sample of each variant at least; [`samples`] implements it.
pub(crate) trait Samples: Coded + Sized {
    fn samples() -> Vec<Self>;
}

/// Implements [`Samples`] for an enum by [`crate::one_of_each`].
macro_rules! samples {
    ($error:ident { $($samples:tt)+ }) => {
        // Repeated so that lints recognize test code.
        #[cfg(test)]
        impl crate::error::tests::Samples for $error {
            fn samples() -> Vec<Self> {
                crate::one_of_each!($error { $($samples)+ })
            }
        }
    };
}
pub(crate) use samples;

/// A refusal of the operating system.
pub(crate) fn refusal() -> std::io::Error {
    std::io::Error::from_raw_os_error(nix::libc::EACCES)
}

/// The failures of each error type, by its name.
fn every() -> BTreeMap<&'static str, Vec<Failure>> {
    fn failures<E: Samples>() -> Vec<Failure> {
        E::samples().iter().map(|error| Failure::of(error)).collect()
    }
    macro_rules! map {
        ($($error:ident),+ $(,)?) => { BTreeMap::from([$((stringify!($error), failures::<$error>())),+]) };
    }
    map![
        AcceleratorError,
        AuthorityError,
        BadMachineName,
        ClientError,
        ConfigError,
        DaemonError,
        DiskError,
        DockerError,
        HomeError,
        ImageError,
        NotRunning,
        PortError,
        RequestError,
        RouteError,
        StartError,
        SuspendError,
        DaemonEnding,
        VmmError,
    ]
}

#[test]
fn message_and_advice_of_every_error_are_apart_and_well_formed() {
    let faults: Vec<_> = every().into_values().flatten().flat_map(|failure| form::faults(&failure)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_code_means_one_thing() {
    // Two layers meet the same cause.
    const SHARED: [&str; 3] = ["accelerator-unusable", "engine-not-running", "not-found"];
    // These pass on the errors they are made of.
    const WRAPPERS: [&str; 4] = ["ClientError", "DaemonError", "StartError", "SuspendError"];
    let mut owners = BTreeMap::<String, &str>::new();
    for (owner, failures) in every().into_iter().filter(|(owner, _)| !WRAPPERS.contains(owner)) {
        for Failure { code, .. } in failures.into_iter().filter(|failure| !SHARED.contains(&failure.code.as_str())) {
            let other = *owners.entry(code.clone()).or_insert(owner);
            assert_eq!(other, owner, "{code}");
        }
    }
}

#[test]
fn no_error_of_the_engine_is_left_out_of_the_walk() {
    let walked = every();
    let mut left_out = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if is_source(&path) {
                let text = fs::read_to_string(&path).unwrap();
                let names = text.lines().filter_map(|line| line.strip_prefix("impl Coded for ")?.strip_suffix(" {"));
                left_out.extend(names.filter(|name| !walked.contains_key(name)).map(str::to_owned));
            }
        }
    }
    assert_eq!(left_out, [""; 0]);
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}
