//! Errors as the command line, the window and programs see them: a sentence for a person, a stable code for programs.

use tonic::{Code, Status, metadata::MetadataValue};

/// Metadata key of a gRPC status under which the stable code travels.
pub const CODE_KEY: &str = "rorqual-code";

/// An error with a stable name, so that nobody needs to match on text.
pub trait Coded: std::error::Error {
    /// The stable name: lower-case words joined by hyphens, such as `config-invalid`. Never changes its meaning.
    fn code(&self) -> &'static str;

    /// The gRPC code that fits; most of what a user meets is a precondition that does not hold.
    fn grpc_code(&self) -> Code {
        Code::FailedPrecondition
    }
}

/// The gRPC status that carries `error` to a client.
pub fn to_status(error: &dyn Coded) -> Status {
    status(error.grpc_code(), error.code(), error.to_string())
}

/// A gRPC status with a stable code.
pub fn status(grpc: Code, code: &'static str, message: impl Into<String>) -> Status {
    let mut status = Status::new(grpc, message);
    status.metadata_mut().insert(CODE_KEY, MetadataValue::from_static(code));
    status
}

/// The stable code a status carries, if it came from this engine.
pub fn code_of(status: &Status) -> Option<&str> {
    status.metadata().get(CODE_KEY)?.to_str().ok()
}

/// The most telling cause of an operating system or transport error, in the system's own words.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_its_code_to_the_client() {
        let status = status(Code::NotFound, "image-missing", "no image");
        assert_eq!(code_of(&status), Some("image-missing"));
        assert_eq!(status.message(), "no image");
        assert_eq!(code_of(&Status::internal("x")), None);
    }
}
