//! A failure as a gRPC status: the message is the status's own, code and advice are metadata.

use tonic::{Status, metadata::MetadataValue};

use super::{Coded, Failure};

/// Metadata key of the stable code.
const CODE_KEY: &str = "rorqual-code";
/// Metadata key of the advice, which may hold any character and therefore travels as bytes.
const FIX_KEY: &str = "rorqual-fix-bin";

/// The gRPC status that carries `error` to a client.
pub fn to_status(error: &dyn Coded) -> Status {
    let Failure { code, message, fix } = Failure::of(error);
    let mut status = Status::new(error.grpc_code(), message);
    let metadata = status.metadata_mut();
    if let Ok(code) = MetadataValue::try_from(code) {
        metadata.insert(CODE_KEY, code);
    }
    if let Some(fix) = fix {
        metadata.insert_bin(FIX_KEY, MetadataValue::from_bytes(fix.as_bytes()));
    }
    status
}

/// The stable code a status carries, if it came from this engine.
pub fn code_of(status: &Status) -> Option<&str> {
    status.metadata().get(CODE_KEY)?.to_str().ok()
}

/// The failure a status carries, if it came from this engine.
pub fn failure_of(status: &Status) -> Option<Failure> {
    let fix = status.metadata().get_bin(FIX_KEY).and_then(|fix| fix.to_bytes().ok());
    Some(Failure {
        code: code_of(status)?.to_owned(),
        message: status.message().to_owned(),
        fix: fix.and_then(|fix| String::from_utf8(fix.to_vec()).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no image")]
    struct NoImage(Option<&'static str>);

    impl Coded for NoImage {
        fn code(&self) -> &'static str {
            "image-missing"
        }

        fn fix(&self) -> Option<String> {
            self.0.map(str::to_owned)
        }
    }

    #[test]
    fn a_status_carries_code_message_and_advice_apart() {
        for fix in [None, Some("build „one“ with `make image`\n100%; or not")] {
            let status = to_status(&NoImage(fix));
            let expected = Failure {
                code: "image-missing".to_owned(),
                message: "no image".to_owned(),
                fix: fix.map(str::to_owned),
            };
            assert_eq!((status.message(), failure_of(&status)), ("no image", Some(expected)));
        }
        assert_eq!(failure_of(&Status::internal("x")), None);
    }
}
