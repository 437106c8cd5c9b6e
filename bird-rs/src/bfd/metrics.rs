//! What `/metrics` shows of BFD: read when somebody looks, so that sessions that come and go leave nothing.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tortie_bfd::State;

use super::{Bfd, Seen};

impl Collector for Bfd {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode(&self.sessions(), encoder)
    }
}

fn encode(sessions: &[Seen], mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let mut up = encoder.encode_descriptor("bfd_session_up", "1 while a BFD session is up", None, MetricType::Gauge)?;
    for seen in sessions {
        let is_up = ConstGauge::new(i64::from(seen.view.state == State::Up));
        is_up.encode(up.encode_family(&labels(seen))?)?;
    }
    let mut failures = encoder.encode_descriptor(
        "bfd_session_failures",
        "How often a BFD session left the state Up because the path or the peer failed",
        None,
        MetricType::Counter,
    )?;
    for seen in sessions {
        ConstCounter::new(seen.view.failures).encode(failures.encode_family(&labels(seen))?)?;
    }
    Ok(())
}

fn labels(seen: &Seen) -> [(&'static str, String); 4] {
    let key = &seen.view.key;
    [
        ("protocol", seen.protocol.to_string()),
        ("peer", key.peer.to_string()),
        ("local", key.local.to_string()),
        ("interface", key.interface.as_deref().unwrap_or_default().to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use tortie_bfd::{Hops, Key};

    use super::*;

    #[derive(Debug)]
    struct Fixed(Vec<Seen>);

    impl Collector for Fixed {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            encode(&self.0, encoder)
        }
    }

    fn seen(last: u8, state: State, failures: u64) -> Seen {
        let key = Key {
            peer: [10, 0, 0, last].into(),
            local: [10, 0, 0, 1].into(),
            interface: Some("eth0".into()),
            hops: Hops::Single,
        };
        Seen::played(key, state, failures)
    }

    #[test]
    fn each_session_has_its_row() {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("bird_rs");
        ours.register_collector(Box::new(Fixed(vec![seen(2, State::Up, 0), seen(3, State::Down, 7)])));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let row = |name: &str, last: u8, value: u8| {
            format!(
                "bird_rs_{name}{{protocol=\"bfd1\",peer=\"10.0.0.{last}\",local=\"10.0.0.1\",interface=\"eth0\"}} {value}"
            )
        };
        assert_eq!(
            rows,
            [
                row("bfd_session_up", 2, 1),
                row("bfd_session_up", 3, 0),
                row("bfd_session_failures_total", 2, 0),
                row("bfd_session_failures_total", 3, 7)
            ]
        );
    }
}
