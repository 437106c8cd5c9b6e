//! A configuration that is rendered again and again: the text of a session that did not change is kept.
//!
//! In a mesh of thousands nearly all of the text is sessions, and a change is about one of them. The result is always that of
//! [`Engine::render`] over the whole view: a text is kept only while everything that it was made of is the same. Templates that
//! do not write each session by itself are rendered as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::data::{for_templates, of_peer, without_peers};
use super::{Engine, GoTemplates, RenderError};
use crate::state::Secret;
use crate::view::{BgpView, PeerView, SecretRef};

/// Stands for all sessions while the rest is rendered, so that their text is not looked at again. No template writes it.
const MARK: &str = "\u{1}sessions\u{1}";

/// The text of a session, and what it was made of.
struct Section {
    peer: Arc<PeerView>,
    strict_bind: bool,
    password: Option<Secret>,
    text: String,
}

impl Section {
    /// Is it of this session? One that did not change is mostly the very same value.
    fn is_of(&self, peer: &Arc<PeerView>, strict_bind: bool, password: Option<&Secret>) -> bool {
        let same = Arc::ptr_eq(&self.peer, peer) || self.peer == *peer;
        same && self.strict_bind == strict_bind && self.password.as_ref() == password
    }
}

/// Texts of sessions.
#[derive(Default)]
pub struct Sections {
    /// In the order of sessions' names, as a view has them.
    kept: Vec<Section>,
    /// How many texts were made, ever.
    made: u64,
}

impl Sections {
    /// The text of `template` for this view.
    ///
    /// # Errors
    /// [`RenderError`], as rendering as a whole gives it.
    pub fn render(
        &mut self,
        engine: &GoTemplates,
        template: &str,
        view: &BgpView,
        secrets: &BTreeMap<SecretRef, Secret>,
    ) -> Result<String, RenderError> {
        if view.peers.is_empty() || !engine.has_sections(template) {
            self.kept.clear();
            return engine.render(template, &for_templates(view, secrets));
        }
        let strict_bind = view.bind_node_ip;
        let mut before = std::mem::take(&mut self.kept).into_iter().peekable();
        for peer in &view.peers {
            let password = peer.password.as_ref().and_then(|p| secrets.get(p));
            while before.next_if(|s| s.peer.name < peer.name).is_some() {}
            let section = match before.next_if(|s| s.is_of(peer, strict_bind, password)) {
                Some(section) => section,
                None => {
                    self.made += 1;
                    Section {
                        text: engine.section(template, &of_peer(peer, strict_bind, secrets))?,
                        peer: Arc::clone(peer),
                        strict_bind,
                        password: password.cloned(),
                    }
                }
            };
            self.kept.push(section);
        }
        let all: String = self.kept.iter().map(|s| s.text.as_str()).collect();
        let mut data = without_peers(view);
        data["peer_sections"] = MARK.into();
        let rest = engine.render(template, &data)?;
        Ok(rest.replacen(MARK, &all, 1))
    }

    /// How many texts of sessions were made, ever.
    pub fn made(&self) -> u64 {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::BIRD_RS;
    use crate::state::ClusterState;
    use crate::view::{RouterIdChoice, Views, compute};
    use proptest::prelude::*;
    use serde_json::json;
    use tortie_model::{Key, Kind};

    /// A document is written or deleted.
    #[derive(Debug, Clone)]
    enum Step {
        Node {
            host: u8,
            at: u8,
            reflector: bool,
            asn: u8,
        },
        Port {
            host: u8,
            port: u16,
        },
        NoNode(u8),
        Peer {
            name: u8,
            host: u8,
            filter: bool,
            password: bool,
        },
        NoPeer(u8),
        Configuration {
            mesh: bool,
            strict: bool,
            port: bool,
        },
        Secret(u8),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let (host, name) = (2u8..9, 0u8..3);
        prop_oneof![
            // Node 1 is our own; now and then two have one address.
            4 => (1u8..9, prop_oneof![4 => Just(0u8), 1 => 1u8..9], prop::bool::weighted(0.1), 0u8..3)
                .prop_map(|(host, at, reflector, asn)| Step::Node { host, at: if at == 0 { host } else { at }, reflector, asn }),
            1 => (1u8..9, 179u16..182).prop_map(|(host, port)| Step::Port { host, port }),
            1 => host.clone().prop_map(Step::NoNode),
            2 => (name.clone(), host, any::<bool>(), any::<bool>())
                .prop_map(|(name, host, filter, password)| Step::Peer { name, host, filter, password }),
            1 => name.prop_map(Step::NoPeer),
            1 => any::<[bool; 3]>().prop_map(|[mesh, strict, port]| Step::Configuration { mesh, strict, port }),
            1 => (0u8..3).prop_map(Step::Secret),
        ]
    }

    fn set(state: &mut ClusterState, revision: u64, kind: Kind, name: &str, spec: serde_json::Value) {
        let key = Key::resource(kind, None, name).to_string();
        let document = json!({"kind": kind.name(), "metadata": {"name": name}, "spec": spec});
        state.set(&key, document.to_string().as_bytes(), revision);
    }

    fn delete(state: &mut ClusterState, kind: Kind, name: &str) {
        state.delete(&Key::resource(kind, None, name).to_string());
    }

    fn node(state: &mut ClusterState, revision: u64, (host, at): (u8, u8), reflector: bool, asn: u8) {
        let mut bgp = json!({"ipv4Address": format!("172.30.0.{at}/24")});
        if at % 3 != 0 {
            bgp["ipv6Address"] = json!(format!("fd00:30::{at}/64"));
        }
        if reflector {
            bgp["routeReflectorClusterID"] = json!("224.0.0.1");
        }
        if asn > 0 {
            bgp["asNumber"] = json!(65000 + u32::from(asn));
        }
        set(state, revision, Kind::Node, &format!("n{host}"), json!({"bgp": bgp}));
    }

    fn take(state: &mut ClusterState, revision: u64, step: &Step) {
        let secret = SecretRef {
            name: "bgp".to_owned(),
            key: "all".to_owned(),
        };
        match *step {
            Step::Node {
                host,
                at,
                reflector,
                asn,
            } => node(state, revision, (host, at), reflector, asn),
            Step::Port { host, port } => {
                let name = format!("node.n{host}");
                set(
                    state,
                    revision,
                    Kind::BgpConfiguration,
                    &name,
                    json!({"listenPort": port}),
                );
            }
            Step::NoNode(host) => delete(state, Kind::Node, &format!("n{host}")),
            Step::Peer {
                name,
                host,
                filter,
                password,
            } => {
                let mut spec = json!({"peerIP": format!("172.30.0.{host}"), "asNumber": 65001});
                if filter {
                    spec["filters"] = json!(["f"]);
                }
                if password {
                    spec["password"] = json!({"secretKeyRef": {"name": "bgp", "key": "all"}});
                }
                set(state, revision, Kind::BgpPeer, &format!("p{name}"), spec);
            }
            Step::NoPeer(name) => delete(state, Kind::BgpPeer, &format!("p{name}")),
            Step::Configuration { mesh, strict, port } => {
                let mut spec =
                    json!({"nodeToNodeMeshEnabled": mesh, "bindMode": if strict { "NodeIP" } else { "None" }});
                if port {
                    spec["listenPort"] = json!(1790);
                }
                set(state, revision, Kind::BgpConfiguration, "default", spec);
            }
            Step::Secret(0) => drop(state.secrets.remove(&secret)),
            Step::Secret(value) => drop(state.secrets.insert(secret, Secret(format!("secret{value}")))),
        }
    }

    fn start() -> ClusterState {
        let mut state = ClusterState::new("n1".parse().unwrap());
        node(&mut state, 1, (1, 1), false, 0);
        let filter = json!({"importV4": [{"action": "Reject", "cidr": "10.0.0.0/8", "matchOperator": "In"}]});
        set(&mut state, 2, Kind::BgpFilter, "f", filter);
        state
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever changed in whichever order: view and text are what the state as a whole gives.
        #[test]
        fn again_is_as_if_anew(steps in prop::collection::vec(any_step(), 1..24)) {
            let engine = GoTemplates::load(None).unwrap();
            let (mut state, mut views, mut sections) = (start(), Views::default(), Sections::default());
            for (at, step) in steps.iter().enumerate() {
                take(&mut state, at as u64 + 3, step);
                let view = compute(&state, RouterIdChoice::Auto).unwrap();
                prop_assert_eq!(&views.compute(&state, RouterIdChoice::Auto).unwrap(), &view, "after {:?}", step);
                let whole = engine.render(BIRD_RS, &for_templates(&view, &state.secrets)).unwrap();
                let again = sections.render(&engine, BIRD_RS, &view, &state.secrets).unwrap();
                prop_assert_eq!(again, whole, "after {:?}", step);
            }
        }
    }

    #[test]
    fn a_changed_node_costs_one_session_and_one_section() {
        let engine = GoTemplates::load(None).unwrap();
        let (mut state, mut views, mut sections) = (start(), Views::default(), Sections::default());
        for host in 2..=100 {
            node(&mut state, u64::from(host), (host, host), false, 0);
        }
        let mut made = |state: &ClusterState| {
            let view = views.compute(state, RouterIdChoice::Auto).unwrap();
            sections.render(&engine, BIRD_RS, &view, &state.secrets).unwrap();
            (views.made(), sections.made())
        };
        assert_eq!(made(&state), (99, 99));
        assert_eq!(made(&state), (99, 99), "nothing changed");
        node(&mut state, 200, (50, 50), false, 1);
        assert_eq!(made(&state), (100, 100));
        delete(&mut state, Kind::Node, "n60");
        assert_eq!(made(&state), (100, 100), "one less is nothing to write");
        node(&mut state, 201, (60, 60), false, 0);
        assert_eq!(made(&state), (101, 101));
        let password = json!({"nodeMeshMaxRestartTime": "60s"});
        set(&mut state, 202, Kind::BgpConfiguration, "default", password);
        assert_eq!(made(&state), (200, 200), "what all have in common");
    }
}
