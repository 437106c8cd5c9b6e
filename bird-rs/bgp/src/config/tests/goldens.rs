//! Wrong files, each with the exact report: `tests/golden/bird-conf/wrong/*.conf` and `*.expect` at the workspace's root.
//! Right files round-trip. `UPDATE=1` writes what is reported now.

use std::path::{Path, PathBuf};

use super::*;

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/bird-conf")
        .join(kind);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "conf"));
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

fn name_of(file: &Path) -> String {
    file.file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[test]
fn wrong_files_get_their_messages() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut differing = Vec::new();
    for file in cases("wrong") {
        let text = std::fs::read_to_string(&file).expect("the file");
        let report = match parse(&name_of(&file), &text, &mut NoInclude) {
            Ok(_) => panic!("{} is accepted", file.display()),
            Err(errors) => errors.iter().map(|e| format!("{e}\n")).collect::<String>(),
        };
        let expect = file.with_extension("expect");
        if update {
            std::fs::write(&expect, &report).expect("to write");
        } else if std::fs::read_to_string(&expect).unwrap_or_default() != report {
            differing.push(format!("{}:\n{report}", file.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn right_files_round_trip() {
    for file in cases("right") {
        let text = std::fs::read_to_string(&file).expect("the file");
        let config = parse(&name_of(&file), &text, &mut NoInclude).unwrap_or_else(|errors| panic!("{}", errors[0]));
        let printed = config.to_string();
        let again = parse("printed.conf", &printed, &mut NoInclude).unwrap_or_else(|errors| panic!("{}", errors[0]));
        assert_eq!(config, again, "{}\n{printed}", file.display());
    }
}
