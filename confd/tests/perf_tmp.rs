use confd::render::*;
use confd::state::*;
use confd::view::*;
#[test]
fn perf() {
    let mut s = ClusterState::new("n0".parse().unwrap());
    for i in 0..5000u32 {
        let j = format!(
            r#"{{"kind":"Node","metadata":{{"name":"n{i}","labels":{{"a":"b"}}}},"spec":{{"bgp":{{"ipv4Address":"10.{}.{}.1/24","ipv6Address":"fd00::{:x}/64"}}}}}}"#,
            i / 250,
            i % 250,
            i + 1
        );
        s.set(
            &format!("/calico/resources/v3/projectcalico.org/nodes/n{i}"),
            j.as_bytes(),
            i as u64 + 1,
        );
    }
    s.set(
        "/calico/resources/v3/projectcalico.org/ippools/p",
        br#"{"kind":"IPPool","metadata":{"name":"p"},"spec":{"cidr":"10.244.0.0/16"}}"#,
        9,
    );
    let e = GoTemplates::load(None).unwrap();
    for _ in 0..3 {
        let t = std::time::Instant::now();
        let v = compute(&s, RouterIdChoice::Auto).unwrap();
        eprintln!("view {:?} peers {}", t.elapsed(), v.peers.len());
        let t = std::time::Instant::now();
        let d = for_templates(&v, &s.secrets);
        eprintln!("data {:?}", t.elapsed());
        let t = std::time::Instant::now();
        let x = e.render(BIRD_RS, &d).unwrap();
        eprintln!("render {:?} {} bytes", t.elapsed(), x.len());
        let t = std::time::Instant::now();
        let r = confd::apply::Rendered::new(x);
        eprintln!("hash {:?} {}", t.elapsed(), r.revision);
    }
}
