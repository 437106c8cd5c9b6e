//! Calls of felix's endpoint service, each with a deadline.

use std::net::IpAddr;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code as Grpc, Request, Status};
use tortie_kit::address::ServiceAddr;
use tortie_proto::common::Hello;
use tortie_proto::felix::endpoint_client::EndpointClient;
use tortie_proto::felix::endpoint_response::Outcome;
use tortie_proto::felix::{
    AddRequest, Attachment, CheckRequest, CollectRequest, DelRequest, EndpointResponse, PrepareRequest, ReadyRequest,
    Result as Made,
};

use crate::environment::{Command, Target};
use crate::error::{CniError, Code, shown};
use crate::netconf::NetConf;

/// felix is on this machine: it answers at once or not at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long felix may take. Longer than its own deadlines towards typha and the kernel together, shorter than a
/// runtime's patience (two minutes and more).
const fn answer_within(command: Command) -> Duration {
    match command {
        Command::Add | Command::Del => Duration::from_secs(45),
        Command::Check => Duration::from_secs(20),
        Command::Gc => Duration::from_secs(90),
        Command::Status | Command::Version => Duration::from_secs(5),
    }
}

/// A connection for one command, which may take a few calls.
pub(crate) struct Felix {
    client: EndpointClient<Channel>,
    address: ServiceAddr,
    command: Command,
}

impl Felix {
    /// Connects. felix away is "try again later", and for STATUS "not available".
    pub(crate) async fn connect(conf: &NetConf, command: Command) -> Result<Self, CniError> {
        let address: ServiceAddr = conf.felix.parse().map_err(|_| {
            let want = "want unix:/path or tcp:host:port";
            let felix = shown(&conf.felix);
            CniError::new(
                Code::InvalidConfiguration,
                format!("network configuration: field 'felix' = {felix}: {want}"),
            )
        })?;
        let channel = address.connect(CONNECT_WITHIN).await.map_err(|e| {
            let code = if command == Command::Status {
                Code::NotAvailable
            } else {
                Code::TryAgainLater
            };
            CniError::new(code, "felix does not answer; is it running on this node?").details(e.to_string())
        })?;
        Ok(Felix {
            client: EndpointClient::new(channel),
            address,
            command,
        })
    }

    /// `given`: the addresses, when felix does not manage them.
    pub(crate) async fn add(&self, conf: &NetConf, target: &Target, given: &[IpAddr]) -> Result<Made, CniError> {
        let text = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect();
        let requested = target.ip.map_or_else(|| conf.requested_ips.clone(), |ip| vec![ip]);
        let request = AddRequest {
            hello: hello(),
            attachment: Some(attachment(conf, target)),
            requested_ips: text(&requested),
            ipv4_pools: conf.ipv4_pools.clone(),
            ipv6_pools: conf.ipv6_pools.clone(),
            assign_ipv4: conf.assign_ipv4,
            assign_ipv6: conf.assign_ipv6,
            mtu: conf.mtu,
            allow_ip_forwarding: conf.allow_ip_forwarding,
            given_ips: text(given),
            floating_ips: text(&conf.floating_ips),
        };
        let answer = self.client.clone().add(self.request(request)).await;
        self.outcome(answer.map(tonic::Response::into_inner))
    }

    /// The node's pod CIDRs, and the addresses the attachment has already.
    pub(crate) async fn prepare(&self, of: Option<(&NetConf, &Target)>) -> Result<Made, CniError> {
        let request = PrepareRequest {
            hello: hello(),
            attachment: of.map(|(conf, target)| attachment(conf, target)),
        };
        let answer = self.client.clone().prepare(self.request(request)).await;
        self.outcome(answer.map(tonic::Response::into_inner))
    }

    pub(crate) async fn del(&self, conf: &NetConf, target: &Target) -> Result<Made, CniError> {
        let request = DelRequest {
            hello: hello(),
            attachment: Some(attachment(conf, target)),
        };
        let answer = self.client.clone().del(self.request(request)).await;
        self.outcome(answer.map(tonic::Response::into_inner))
    }

    pub(crate) async fn check(
        &self,
        conf: &NetConf,
        target: &Target,
        expected_ips: Vec<String>,
    ) -> Result<Made, CniError> {
        let request = CheckRequest {
            hello: hello(),
            attachment: Some(attachment(conf, target)),
            expected_ips,
        };
        let answer = self.client.clone().check(self.request(request)).await;
        self.outcome(answer.map(tonic::Response::into_inner))
    }

    /// `given`: other than felix manage addresses.
    pub(crate) async fn ready(&self, given: bool) -> Result<Made, CniError> {
        let request = ReadyRequest {
            hello: hello(),
            addresses_given: given,
        };
        let answer = self.client.clone().ready(self.request(request)).await;
        self.outcome(answer.map(tonic::Response::into_inner))
    }

    pub(crate) async fn collect(&self, conf: &NetConf, valid: &[(String, String)]) -> Result<Made, CniError> {
        let keep = |(container_id, ifname): &(String, String)| Attachment {
            container_id: container_id.clone(),
            ifname: ifname.clone(),
            ..Attachment::default()
        };
        let valid = valid.iter().map(keep).collect();
        let request = CollectRequest {
            hello: hello(),
            network: conf.name.clone(),
            valid,
        };
        let answer = self.client.clone().collect(self.request(request)).await;
        self.outcome(answer.map(tonic::Response::into_inner))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(answer_within(self.command));
        request
    }

    fn outcome(&self, answer: Result<EndpointResponse, Status>) -> Result<Made, CniError> {
        let answer = answer.map_err(|status| self.failed(&status))?;
        Hello::check(answer.hello.as_ref()).map_err(|e| {
            CniError::new(Code::Internal, format!("felix at {} cannot be used: {e}", self.address))
                .details("the plugin and felix on this node are of different releases")
        })?;
        match answer.outcome {
            Some(Outcome::Result(made)) => Ok(made),
            Some(Outcome::Failure(f)) => Err(CniError::new(Code::Other(f.code), f.message).details(f.details)),
            None => Err(CniError::new(
                Code::Internal,
                format!("felix at {} answered nothing", self.address),
            )),
        }
    }

    fn failed(&self, status: &Status) -> CniError {
        let seconds = answer_within(self.command).as_secs();
        match status.code() {
            Grpc::Unavailable => CniError::new(Code::TryAgainLater, "felix went away while it was asked"),
            Grpc::DeadlineExceeded | Grpc::Cancelled => {
                CniError::new(Code::TryAgainLater, format!("felix gave no answer within {seconds} s"))
            }
            Grpc::FailedPrecondition | Grpc::Unimplemented => CniError::new(
                Code::Internal,
                "the plugin and felix on this node are of different releases; install the same one",
            ),
            _ => CniError::new(Code::Internal, "felix refused the call"),
        }
        .details(format!("{}: {:?}: {}", self.address, status.code(), status.message()))
    }
}

fn hello() -> Option<Hello> {
    Some(Hello::new("tortie", "", &tortie_kit::instance()))
}

fn attachment(conf: &NetConf, target: &Target) -> Attachment {
    let (orchestrator, namespace, pod) = match &target.pod {
        Some((namespace, pod)) => ("k8s", namespace.clone(), pod.clone()),
        None => ("cni", "default".to_owned(), String::new()),
    };
    Attachment {
        network: conf.name.clone(),
        container_id: target.container_id.clone(),
        ifname: target.ifname.clone(),
        netns: target.netns.clone(),
        orchestrator: orchestrator.to_owned(),
        namespace,
        pod,
    }
}
