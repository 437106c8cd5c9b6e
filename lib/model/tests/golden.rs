//! Golden files: manifests as people write them, and what becomes of each document.
//!
//! `tests/golden/<case>.yaml` is read, then every document is admitted over those before it, as typha would.
//! `tests/golden/<case>.expect` has what was said, or what is stored. `UPDATE=1` writes the expectations anew.

#![allow(clippy::unwrap_used)] // How a test fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tortie_model::{View, admit, read_manifests};

#[derive(Default)]
struct Store(BTreeMap<String, Vec<u8>>);

impl View for Store {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &[u8])) {
        self.0
            .iter()
            .filter(|(k, _)| k.starts_with(prefix))
            .for_each(|(k, v)| f(k, v));
    }

    fn exists(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

fn run(name: &str, text: &str) -> String {
    let mut out = String::new();
    let manifests = match read_manifests(name, text, "default") {
        Ok(manifests) => manifests,
        Err(problems) => {
            problems.iter().for_each(|p| writeln!(out, "unreadable {p}").unwrap());
            return out;
        }
    };
    let mut store = Store::default();
    for manifest in manifests {
        let key = manifest.key.to_string();
        let old = store.0.get(&key).map(|v| serde_json::from_slice(v).unwrap());
        match admit(&manifest.key, manifest.value.clone(), old.as_ref(), &store) {
            Ok(value) => {
                writeln!(out, "stored {key}\n{value:#}").unwrap();
                // Storing what is stored changes nothing: otherwise nothing would ever be "unchanged".
                assert_eq!(
                    admit(&manifest.key, value.clone(), Some(&value), &store).as_ref(),
                    Ok(&value)
                );
                store.0.insert(key, serde_json::to_vec(&value).unwrap());
            }
            Err(refused) => {
                writeln!(out, "refused {refused}").unwrap();
                manifest
                    .locate(&refused)
                    .iter()
                    .for_each(|p| writeln!(out, "    at {p}").unwrap());
            }
        }
    }
    out
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    cases.sort();
    cases
}

#[test]
fn golden() {
    let cases = cases();
    assert!(cases.len() >= 10, "golden files are missing");
    let mut wrong = Vec::new();
    for input in cases {
        let name = input.file_name().unwrap().to_string_lossy().into_owned();
        let got = run(&name, &std::fs::read_to_string(&input).unwrap());
        let expect = input.with_extension("expect");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expect, &got).unwrap();
        } else if std::fs::read_to_string(&expect).ok().as_deref() != Some(&got) {
            wrong.push(format!("{name} gives\n{got}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nrun with UPDATE=1 if this is meant",
        wrong.join("\n")
    );
}

/// The manifests we ship are accepted as they are.
#[test]
fn examples_are_admitted() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    assert!(!files.is_empty());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let said = run(&name, &std::fs::read_to_string(&file).unwrap());
        assert!(
            said.starts_with("stored") && !said.contains("refused"),
            "{name}: {said}"
        );
    }
}
