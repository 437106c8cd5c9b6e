//! What a gRPC call that failed tells a person.

use std::error::Error as _;

use tonic::{Code, Status};

/// The reason of a failed call, never empty. A transport error wraps what happened ("Connection refused") several times:
/// the innermost is told. A server that does not know the call at all is some other program.
pub fn reason(status: &Status) -> String {
    let mut cause = status.source();
    let mut said = status.message().to_owned();
    while let Some(e) = cause {
        said = e.to_string();
        cause = e.source();
    }
    if !said.is_empty() {
        return said;
    }
    match status.code() {
        Code::Unimplemented => {
            "another program, or another version, answers there: it does not know this call".to_owned()
        }
        code => code.description().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_reason() {
        assert_eq!(reason(&Status::not_found("no such key")), "no such key");
        assert!(reason(&Status::unimplemented("")).starts_with("another program"));
        assert!(!reason(&Status::internal("")).is_empty());
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(std::io::Error::other(refused)));
        assert!(reason(&status).contains("refused"), "{status}");
    }
}
