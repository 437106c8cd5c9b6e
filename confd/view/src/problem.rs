//! What could not be done as asked. A problem never stops the rest: the view leaves out the part and says so.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use tortie_net::NodeName;

use super::types::{Origin, SecretRef};

/// A part of the wanted state that has no effect, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The object to look at.
    pub object: Origin,
    /// The field, in the object's own terms.
    pub field: &'static str,
    /// What is wrong.
    #[serde(flatten)]
    pub kind: ProblemKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The stored document cannot be read.
    #[error("the stored object cannot be read: {reason}")]
    Unreadable {
        /// What the decoder said.
        reason: String,
    },
    /// A node takes no part in BGP.
    #[error("the node has no BGP address: there is no session with it")]
    NodeWithoutAddress,
    /// Our own node.
    #[error("this node has no BGP address: it has no sessions")]
    OwnNodeWithoutAddress,
    /// Two nodes that cannot meet.
    #[error("node {node} has no address in a family of this node: there is no session with it")]
    NoCommonFamily {
        /// The other one.
        node: NodeName,
    },
    /// Two nodes with one address.
    #[error("{address} is also the address of node {node}: there is one session for both")]
    SharedAddress {
        /// The address.
        address: IpAddr,
        /// Whose session is kept.
        node: NodeName,
    },
    /// Our own address is another node's too.
    #[error("{address} is also the address of this node: there is no session with it")]
    OwnAddressTaken {
        /// The address.
        address: IpAddr,
    },
    /// A BGPPeer needs it with peerIP and with localWorkloadSelector.
    #[error("a peer that is no node needs an AS number: there is no session")]
    PeerWithoutAs,
    /// Neither of peerIP and peerSelector.
    #[error("names no remote side: want peerIP or peerSelector")]
    PeerWithoutRemote,
    /// This node cannot speak to it.
    #[error("{address} is of a family in which this node has no address: there is no session")]
    FamilyDisabled {
        /// The peer.
        address: IpAddr,
    },
    /// A value of the wrong form.
    #[error("'{value}' is not valid: {reason}")]
    BadValue {
        /// As stored.
        value: String,
        /// What is wanted.
        reason: String,
    },
    /// A BGPFilter that does not exist.
    #[error("there is no BGPFilter '{filter}': it is left out")]
    UnknownFilter {
        /// The name.
        filter: String,
    },
    /// A community that is neither a value nor a defined name.
    #[error("'{community}' is neither a community nor a name defined in communities: it is left out")]
    UnknownCommunity {
        /// The name.
        community: String,
    },
    /// A password that is not there. As in Calico the session is set up without it.
    #[error("secret {}/{} is not there: the session has no password", secret.name, secret.key)]
    MissingSecret {
        /// Which.
        secret: SecretRef,
    },
    /// A password that cannot be written into a configuration.
    #[error("secret {}/{} cannot be a password ({reason}): the session has none", secret.name, secret.key)]
    UnusableSecret {
        /// Which.
        secret: SecretRef,
        /// Why.
        reason: String,
    },
    /// A field that does nothing here.
    #[error("has no effect: {reason}")]
    NoEffect {
        /// Why.
        reason: &'static str,
    },
    /// Two objects ask for the same session.
    #[error("{kept} already asks for this session with {address}: this one has no effect")]
    DuplicatePeer {
        /// The one that wins.
        kept: Origin,
        /// The peer.
        address: IpAddr,
    },
    /// A gateway of another family than the peer.
    #[error("{gateway} is of another family than the peer: there is no route to it")]
    GatewayFamily {
        /// The gateway.
        gateway: IpAddr,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object.kind, self.object.name)?;
        if !self.field.is_empty() {
            write!(f, ", field {}", self.field)?;
        }
        write!(f, ": {}", self.kind)
    }
}
