//! Golden cases: a cluster as YAML -> the computed view and the rendered file. `UPDATE=1` writes the expectations anew.
//!
//! Stock BIRD accepts every file that is rendered for it of the same views.

#![allow(clippy::unwrap_used)] // A test may panic.

mod cases;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use cases::{cases, load};
use confd::render::{BIRD, BIRD_RS, Engine, GoTemplates, for_templates};
use confd::state::ClusterState;
use confd::view::{SecretRef, compute};
use serde_json::Value;
use tortie_bgp::config::{Action, Config, ProtocolKind, diff};
use tortie_bgp_view::change::{Effect, change};

/// What a case gives: the view, and the text or the reason why there is none.
fn run(case: &Path) -> (String, String) {
    let (state, router_id) = load(case);
    match compute(&state, router_id.parse().unwrap()) {
        Err(e) => (format!("{e}\n"), String::new()),
        Ok(view) => {
            let data = for_templates(&view, &state.secrets);
            let text = GoTemplates::load(None).unwrap().render(BIRD_RS, &data).unwrap();
            (serde_json::to_string_pretty(&view).unwrap() + "\n", text)
        }
    }
}

fn expect(path: &Path, got: &str, failed: &mut Vec<String>) {
    if std::env::var("UPDATE").is_ok_and(|v| v == "1") {
        std::fs::write(path, got).unwrap();
        return;
    }
    let want = std::fs::read_to_string(path).unwrap_or_default();
    let diff = confd::diff::unified(&want, got);
    if !diff.is_empty() {
        failed.push(format!("{}:\n{diff}", path.display()));
    }
}

#[test]
fn views_and_files_are_as_expected() {
    let (mut failed, cases) = (Vec::new(), cases());
    assert!(cases.len() >= 100, "{} cases", cases.len());
    for case in &cases {
        let (view, text) = run(case);
        expect(&case.join("expect.view.json"), &view, &mut failed);
        expect(&case.join("expect.conf"), &text, &mut failed);
    }
    assert!(failed.is_empty(), "UPDATE=1 accepts these:\n{}", failed.join("\n"));
}

#[test]
fn stock_bird_accepts_every_file_made_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = GoTemplates::load(None).unwrap();
    for case in cases() {
        let (state, router_id) = load(&case);
        let Ok(view) = compute(&state, router_id.parse().unwrap()) else {
            continue;
        };
        let text = engine.render(BIRD, &for_templates(&view, &state.secrets)).unwrap();
        let path = dir.path().join("bird.conf");
        std::fs::write(&path, text).unwrap();
        let out = Command::new("bird").arg("-p").arg("-c").arg(&path).output();
        let out = out.expect("the bird of package bird2 (make deps)");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{}: {said}", case.display());
    }
}

/// Calico's order: what is ignored first, then what never counts.
#[test]
fn stock_bird_does_not_look_at_ignored_interfaces() {
    let case = cases().into_iter().find(|c| c.ends_with("ignored-interfaces")).unwrap();
    let (state, router_id) = load(&case);
    let view = compute(&state, router_id.parse().unwrap()).unwrap();
    let ignored: String = view.ignored_interfaces.iter().map(|i| format!("-\"{i}\", ")).collect();
    assert!(!ignored.is_empty());
    let data = for_templates(&view, &state.secrets);
    let text = GoTemplates::load(None).unwrap().render(BIRD, &data).unwrap();
    let line = format!("  interface {ignored}-\"cali*\", -\"kube-ipvs*\", \"*\";");
    assert!(text.lines().any(|l| l == line), "{line}\n{text}");
}

#[test]
fn our_own_parser_accepts_every_file_as_meant() {
    for case in cases() {
        let (view, text) = run(&case);
        if text.is_empty() {
            continue;
        }
        let parsed = tortie_bgp::config::parse("bird.conf", &text, &mut tortie_bgp::config::NoInclude);
        let config = parsed.unwrap_or_else(|e| panic!("{}: {e:?}", case.display()));
        let view: Value = serde_json::from_str(&view).unwrap();
        assert_eq!(
            config.router_id.unwrap().to_string(),
            view["router_id"].as_str().unwrap()
        );
        for peer in view["peers"].as_array().unwrap() {
            let name = peer["name"].as_str().unwrap();
            assert!(
                config.protocol(name).is_some(),
                "{}: no protocol {name}",
                case.display()
            );
        }
    }
}

#[test]
fn passwords_are_in_the_file_and_nowhere_else() {
    for case in cases() {
        let (state, _) = load(&case);
        let (view, text) = run(&case);
        for secret in state.secrets.values().filter(|s| !s.0.is_empty() && !s.0.contains('"')) {
            assert!(
                !view.contains(&secret.0),
                "{}: the view shows a password",
                case.display()
            );
            assert!(!format!("{state:?}").contains(&secret.0), "Debug shows a password");
        }
        drop(text);
    }
}

#[test]
fn every_protocol_names_its_object() {
    for case in cases() {
        let (_, text) = run(&case);
        for (index, line) in text.lines().enumerate().filter(|(_, l)| l.starts_with("protocol bgp ")) {
            let object = confd::render::source_map::object_at(&text, index + 1);
            assert!(object.is_some(), "{}: {line}", case.display());
        }
    }
}

/// A session's name and what happens to it.
type Effects = BTreeMap<String, Effect>;

/// Every golden case after every other of the same node: what we say happens to each session is what bird-rs finds when it
/// compares the files.
#[test]
fn bird_rs_does_to_sessions_what_is_foretold() {
    let engine = GoTemplates::load(None).unwrap();
    let mut sides = Vec::new();
    for case in cases() {
        let (state, router_id) = load(&case);
        let Ok(view) = compute(&state, router_id.parse().unwrap()) else {
            continue;
        };
        let text = engine.render(BIRD_RS, &for_templates(&view, &state.secrets)).unwrap();
        let config = tortie_bgp::config::parse("bird.conf", &text, &mut tortie_bgp::config::NoInclude);
        sides.push((case, state, view, config.unwrap()));
    }
    let mut seen: BTreeMap<Effect, usize> = BTreeMap::new();
    for (case, old_state, old, old_config) in &sides {
        for (next, new_state, new, new_config) in sides.iter().filter(|(_, s, ..)| s.node == old_state.node) {
            if passwords(old_state) != passwords(new_state) {
                continue;
            }
            let change = change(&old.node, Some(old), Some(new));
            let ours: Effects = change.sessions.iter().map(|s| (s.name.clone(), s.effect)).collect();
            assert_eq!(
                ours,
                theirs(old_config, new_config),
                "{} -> {}",
                case.display(),
                next.display()
            );
            ours.values().for_each(|e| *seen.entry(*e).or_default() += 1);
        }
    }
    for effect in [Effect::Refeed, Effect::Reset, Effect::Added, Effect::Removed] {
        assert!(seen.get(&effect).is_some_and(|n| *n > 10), "{seen:?}");
    }
}

/// A secret with another password in it is another secret to bird-rs, and the same to us.
fn passwords(state: &ClusterState) -> Vec<(&SecretRef, &str)> {
    state
        .secrets
        .iter()
        .map(|(name, secret)| (name, secret.0.as_str()))
        .collect()
}

fn theirs(old: &Config, new: &Config) -> Effects {
    let is_bgp = |name: &str| {
        let protocol = new.protocol(name).or_else(|| old.protocol(name));
        protocol.is_some_and(|p| matches!(p.kind, ProtocolKind::Bgp(_)))
    };
    let changes = diff(old, new).into_iter().filter(|c| is_bgp(&c.protocol));
    let effect = |action| match action {
        Action::InPlace => Effect::InPlace,
        Action::Refeed => Effect::Refeed,
        Action::Restart => Effect::Reset,
        Action::Add => Effect::Added,
        Action::Remove => Effect::Removed,
    };
    changes.map(|c| (c.protocol.to_string(), effect(c.action))).collect()
}
