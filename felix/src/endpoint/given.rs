//! Endpoints whose addresses another plugin manages: what that plugin is told, and what is checked of what it gave.
//!
//! Such an address is in no block and of no handle of ours: it is neither released nor collected here.

use std::net::IpAddr;
use std::sync::Arc;

use tortie_model::resource::{IpNat, Node};
use tortie_net::Prefix;
use tortie_proto::felix::{PrepareRequest, Result as Made};

use super::failure::Failure;
use super::record;
use super::request::Attachment;
use super::work::Work;

impl Work {
    /// What whoever gives addresses needs to know: the node's pod CIDRs, and which addresses the attachment's record has
    /// already, if it is of this very container.
    pub(super) async fn prepare(self: Arc<Self>, request: PrepareRequest) -> Result<Made, Failure> {
        let state = self.state_for_add()?;
        let node = state.node.as_ref().map(|n| &*n.value);
        let pod_cidrs = node.map(Node::pod_cidrs).unwrap_or_default();
        let ips = match request.attachment {
            None => Vec::new(),
            given @ Some(_) => {
                let attachment = Attachment::new(&self.parts.node, given)?;
                let record = record::read(&self.parts.store, &attachment).await?;
                record
                    .filter(|r| r.is_of(&attachment))
                    .map(|r| r.ips())
                    .unwrap_or_default()
            }
        };
        Ok(Made {
            ips: ips.into_iter().map(|ip| Prefix::host(ip).to_string()).collect(),
            pod_cidrs: pod_cidrs.iter().flatten().map(Prefix::to_string).collect(),
            ..Made::default()
        })
    }
}

/// Each address that others use, with the endpoint's own of the same family.
pub(super) fn nats(floating: &[IpAddr], ips: &[IpAddr]) -> Result<Vec<IpNat>, Failure> {
    let nat = |external: &IpAddr| {
        let own = ips.iter().find(|ip| ip.is_ipv4() == external.is_ipv4());
        let internal_ip = *own.ok_or_else(|| {
            Failure::invalid(format!(
                "floating address {external}: the workload has no address of its family"
            ))
        })?;
        Ok(IpNat {
            internal_ip,
            external_ip: *external,
        })
    };
    floating.iter().map(nat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floating_address_needs_one_of_its_family() {
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        let found = nats(&[ip("192.0.2.7")], &[ip("fd00::1"), ip("10.0.0.1")]).unwrap();
        assert_eq!(
            (found[0].internal_ip, found[0].external_ip),
            (ip("10.0.0.1"), ip("192.0.2.7"))
        );
        let e = nats(&[ip("2001:db8::1")], &[ip("10.0.0.1")]).unwrap_err().message;
        assert!(e.contains("2001:db8::1") && e.contains("family"), "{e}");
    }
}
