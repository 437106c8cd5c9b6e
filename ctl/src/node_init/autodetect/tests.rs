//! Recorded hosts: `tests/golden/autodetect/CASE.host` is what `ip address` printed, `CASE.expect` what each method says.
//!
//! The questions are the left sides of the expectation's lines. `UPDATE=1` writes the right sides anew.

use super::*;

/// `ip address`, as iproute2 prints it.
fn parse(text: &str) -> (Vec<Interface>, Hints) {
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut hints = Hints::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["#", "internal", ip] => hints.internal.push(ip.parse().unwrap()),
            ["#", "source", ip] => hints.source = Some(ip.parse().unwrap()),
            ["#", ..] => {}
            [_, name, flags, ..] if flags.starts_with('<') => {
                let name = name.trim_end_matches(':').split('@').next().unwrap();
                let up = flags.trim_matches(['<', '>']).split(',').any(|f| f == "UP");
                interfaces.push(Interface {
                    name: name.to_owned(),
                    up,
                    addresses: Vec::new(),
                });
            }
            ["inet" | "inet6", address, ref flags @ ..] => {
                let has = |f: &str| flags.contains(&f);
                interfaces.last_mut().unwrap().addresses.push(Address {
                    address: address.parse().unwrap(),
                    secondary: has("secondary"),
                    temporary: has("temporary"),
                    unusable: has("deprecated") || has("tentative") || has("dadfailed"),
                    permanent: !has("dynamic"),
                });
            }
            [
                "link/ether" | "link/loopback" | "link/none" | "link/ipip" | "valid_lft",
                ..,
            ] => {}
            _ => panic!("no line of `ip address`: {line}"),
        }
    }
    (interfaces, hints)
}

fn answer(question: &str, interfaces: &[Interface], hints: &Hints) -> String {
    let (family, method) = question.split_once(' ').unwrap();
    let family = if family == "4" { IpFamily::V4 } else { IpFamily::V6 };
    match method.parse() {
        Err(e) => format!("wrong: {e}"),
        Ok(method) => match detect(&method, family, interfaces, hints) {
            Ok(found) => found.to_string(),
            Err(e) => format!("refused: {e}"),
        },
    }
}

#[test]
fn recorded_hosts() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/autodetect");
    let mut hosts: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "host"))
        .collect();
    hosts.sort();
    assert!(hosts.len() >= 30, "{} recorded hosts", hosts.len());
    let mut wrong = Vec::new();
    for host in hosts {
        let (interfaces, hints) = parse(&std::fs::read_to_string(&host).unwrap());
        assert!(!interfaces.is_empty(), "{}", host.display());
        let expectation = host.with_extension("expect");
        let expected = std::fs::read_to_string(&expectation).unwrap();
        let answered: String = expected
            .lines()
            .map(|line| {
                let question = line.split(" -> ").next().unwrap();
                format!("{question} -> {}\n", answer(question, &interfaces, &hints))
            })
            .collect();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expectation, &answered).unwrap();
        } else if answered != expected {
            wrong.push(format!("{}:\n{answered}want\n{expected}", host.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn methods_are_read_and_printed_alike() {
    for text in [
        "first-found",
        "interface=eth.*,en.*",
        "skip-interface=wg0",
        "can-reach=8.8.8.8",
        "cidr=10.0.0.0/8,fd00::/8",
        "kubernetes-internal-ip",
    ] {
        assert_eq!(text.parse::<Method>().unwrap().to_string(), text);
    }
    for (bad, why) in [
        ("", "no such method"),
        ("first-found=eth0", "no such method"),
        ("interface=", "interface= wants a value"),
        ("interface=(", "unclosed group"),
        ("cidr=10.0.0.0", "10.0.0.0"),
        ("can-reach=a,b", "no such method"),
        ("first found", "no such method"),
    ] {
        let said = bad.parse::<Method>().unwrap_err().to_string();
        assert!(said.contains(why) && said.contains("want first-found"), "{bad}: {said}");
    }
}
