//! Why an attachment was not made: a CNI error code, and a message for whoever reads the runtime's log.

use tortie_netlink::netns::NetnsError;
use tortie_netlink::request::RequestError;
use tortie_proto::felix;
use tortie_typha_client::StoreError;

use crate::dataplane::DataplaneError;
use crate::ipam;

/// Codes of the CNI specification, and from 100 on ours.
const INVALID_ENVIRONMENT: u32 = 4;
const TRY_AGAIN_LATER: u32 = 11;
const NOT_AVAILABLE: u32 = 50;
const LIMITED: u32 = 51;
const INTERNAL: u32 = 100;
const NO_ADDRESS: u32 = 101;
const DIFFERS: u32 = 102;

/// An attachment that was not made, not removed, or is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    pub(super) code: u32,
    pub(super) message: String,
    pub(super) details: String,
}

impl Failure {
    fn new(code: u32, message: String) -> Self {
        Failure {
            code,
            message,
            details: String::new(),
        }
    }

    /// 11: nothing is wrong with the request.
    pub(super) fn try_later(message: String) -> Self {
        Failure::new(TRY_AGAIN_LATER, message)
    }

    /// 50: no ADD can succeed now.
    pub(super) fn not_available(message: String) -> Self {
        Failure::new(NOT_AVAILABLE, message)
    }

    /// 51: no ADD can succeed now, and the workloads that are there may not reach everything.
    pub(super) fn limited(message: String) -> Self {
        Failure::new(LIMITED, message)
    }

    /// 4: the request itself is wrong.
    pub(super) fn invalid(message: String) -> Self {
        Failure::new(INVALID_ENVIRONMENT, message)
    }

    /// 100: something on this node.
    pub(super) fn internal(message: String) -> Self {
        Failure::new(INTERNAL, message)
    }

    /// 102: a check found a difference.
    pub(super) fn differs(message: String) -> Self {
        Failure::new(DIFFERS, message)
    }

    pub(super) fn details(self, details: impl Into<String>) -> Self {
        Failure {
            details: details.into(),
            ..self
        }
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        let said = e.to_string();
        match e {
            StoreError::Unavailable(_) => {
                Failure::try_later("typha does not answer, try again later".to_owned()).details(said)
            }
            StoreError::Conflict(_) | StoreError::AlreadyExists(_) => {
                Failure::try_later("the WorkloadEndpoint was changed by others meanwhile, try again".to_owned())
                    .details(said)
            }
            StoreError::NotFound(_) | StoreError::Invalid(_) | StoreError::Denied(_) | StoreError::Incompatible(_) => {
                Failure::internal(format!("typha refused: {said}"))
            }
        }
    }
}

impl From<ipam::Failure> for Failure {
    fn from(e: ipam::Failure) -> Self {
        match e {
            ipam::Failure::TryLater(said) => {
                Failure::try_later("address management is not available, try again later".to_owned()).details(said)
            }
            ipam::Failure::NoAddress(said) => Failure::new(NO_ADDRESS, said),
            ipam::Failure::Refused(said) => Failure::internal(said),
        }
    }
}

impl From<NetnsError> for Failure {
    fn from(e: NetnsError) -> Self {
        match e {
            NetnsError::Missing(_) | NetnsError::NotANamespace(_) => Failure::invalid(format!(
                "CNI_NETNS: {e}; the sandbox is gone or was never made: the runtime has to make it before ADD"
            )),
            NetnsError::Failed { .. } => Failure::internal(e.to_string()),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(e: RequestError) -> Self {
        Failure::internal(e.to_string())
    }
}

impl From<DataplaneError> for Failure {
    fn from(e: DataplaneError) -> Self {
        match e {
            DataplaneError::Stopping => Failure::try_later(e.to_string()),
            DataplaneError::NotProgrammed { .. } => Failure::internal(e.to_string()),
        }
    }
}

impl From<Failure> for felix::Failure {
    fn from(f: Failure) -> Self {
        felix::Failure {
            code: f.code,
            message: f.message,
            details: f.details,
        }
    }
}
