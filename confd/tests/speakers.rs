//! The files for FRR and GoBGP of every golden case: loaded by the real programs, or refused with the object that cannot be
//! said.

#![allow(clippy::unwrap_used)] // A test may panic.

mod cases;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use cases::{cases, load};
use confd::render::{Engine, FRR, GOBGP, GoTemplates, RenderError, for_any_template};
use confd::view::compute;

/// Every case's file, or why there is none, by the case's name. Cases without a view are left out.
fn rendered(template: &str) -> BTreeMap<String, Result<String, RenderError>> {
    let engine = GoTemplates::load(None).unwrap();
    let mut all = BTreeMap::new();
    for case in cases() {
        let (state, router_id) = load(&case);
        if let Ok(view) = compute(&state, router_id.parse().unwrap()) {
            let name = case.file_name().unwrap().to_string_lossy().into_owned();
            let data = for_any_template(&view, &state.secrets);
            all.insert(name, engine.render(template, &data));
        }
    }
    all
}

/// What `check` says of the file of each case that has one.
fn accepted(template: &str, check: impl Fn(&Path) -> Command) -> usize {
    let (dir, mut count) = (tempfile::tempdir().unwrap(), 0);
    for (case, text) in rendered(template) {
        let Ok(text) = text else { continue };
        let path = dir.path().join("candidate");
        std::fs::write(&path, &text).unwrap();
        let out = check(&path).output().expect("the program (make deps)");
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(out.status.success(), "{case}: {said}\n{text}");
        count += 1;
    }
    count
}

#[test]
fn frr_accepts_every_file_made_for_it() {
    let loaded = accepted(FRR, |file| {
        let mut vtysh = Command::new("vtysh");
        vtysh.args(["--dryrun", "--inputfile"]).arg(file);
        vtysh
    });
    assert!(loaded > 95, "{loaded}");
}

#[test]
fn gobgp_accepts_every_file_made_for_it() {
    let loaded = accepted(GOBGP, |file| {
        let mut gobgpd = Command::new("gobgpd");
        gobgpd
            .args(["--dry-run", "--config-type", "yaml", "--config-file"])
            .arg(file);
        gobgpd
    });
    assert!(loaded >= 5, "{loaded}");
}

#[test]
fn what_cannot_be_said_names_the_object() {
    let (frr, gobgp) = (rendered(FRR), rendered(GOBGP));
    let refused = |all: &BTreeMap<String, Result<String, RenderError>>, case: &str| {
        all.get(case).unwrap().as_ref().unwrap_err().to_string()
    };
    let e = refused(&frr, "filters-source");
    assert!(
        e.contains("BGPFilter f, revision") && e.contains("interface 'bond0'"),
        "{e}"
    );
    let e = refused(&frr, "peer-port");
    assert!(
        e.contains("BGPPeer tor") && e.contains("one session with 172.30.0.1"),
        "{e}"
    );
    let e = refused(&frr, "mesh-password");
    assert!(e.contains("Node n2") && e.contains("space"), "{e}");
    let e = refused(&gobgp, "reflector-without-blocks-mixed-prepend");
    assert!(e.contains("BGPFilter f") && e.contains("one AS number"), "{e}");
    let e = refused(&gobgp, "mesh");
    assert!(e.contains("BlockAffinity") && e.contains("cannot be originated"), "{e}");
}
