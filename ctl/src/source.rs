//! The documents a person gives: files, directories, standard input.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tortie_model::{Key, Kind, Manifest, Place, Problem, What, read_manifests};

use crate::cli::{FileArgs, Usage};

/// What a directory is searched for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads every document. All problems of all files are reported at once, and then nothing is given.
pub(crate) fn read(args: &FileArgs) -> Result<Vec<Manifest>> {
    let (manifests, problems) = read_all(args)?;
    report(&problems)?;
    Ok(manifests)
}

/// Reads every document; those that can be read, and what is wrong with the others.
pub(crate) fn read_all(args: &FileArgs) -> Result<(Vec<Manifest>, Vec<Problem>)> {
    if args.files.is_empty() {
        return Err(Usage::error("no files: use -f FILE, -f DIRECTORY or -f -"));
    }
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in texts(args)? {
        match read_manifests(&name, &text, &args.namespace) {
            Ok(read) => manifests.extend(read),
            Err(found) => problems.extend(found),
        }
    }
    problems.extend(repeated(&manifests));
    if manifests.is_empty() && problems.is_empty() {
        return Err(nothing(args));
    }
    // A peer names filters, which must be there first.
    manifests.sort_by_key(|m| m.kind == Kind::BgpPeer);
    Ok((manifests, problems))
}

fn nothing(args: &FileArgs) -> anyhow::Error {
    let names = args.files.iter().map(|f| if f == "-" { "standard input" } else { f });
    anyhow!("no resource in {}", names.collect::<Vec<_>>().join(", "))
}

/// `1 error`, `2 errors`.
pub(crate) fn count(errors: usize) -> String {
    match errors {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    }
}

/// Fails with every problem, if there is one.
pub(crate) fn report(problems: &[Problem]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let count = count(problems.len());
    Err(anyhow!("{count}, nothing was changed\n{}", lines.join("\n")))
}

/// The same object twice: which one is meant?
fn repeated(manifests: &[Manifest]) -> Vec<Problem> {
    let mut seen: BTreeMap<&Key, &Place> = BTreeMap::new();
    let mut problems = Vec::new();
    for manifest in manifests {
        if let Some(first) = seen.insert(&manifest.key, &manifest.place) {
            problems.push(Problem {
                place: manifest.place.clone(),
                object: Some(manifest.key.object_name()),
                what: What::Document(format!("is given twice, first in {}:{}", first.file, first.line)),
            });
        }
    }
    problems
}

fn texts(args: &FileArgs) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for file in &args.files {
        if file == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            texts.push(("<stdin>".to_owned(), text));
            continue;
        }
        let path = Path::new(file);
        let files = if path.is_dir() {
            directory(path, args.recursive)?
        } else {
            vec![path.to_owned()]
        };
        if files.is_empty() {
            bail!("no .yaml, .yml or .json file in directory {file}");
        }
        for path in files {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.push((path.display().to_string(), text));
        }
    }
    Ok(texts)
}

/// The manifests of a directory, by name.
fn directory(path: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    let reading = || format!("cannot read directory {}", path.display());
    let mut found = Vec::new();
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).with_context(reading)? {
        entries.push(entry.with_context(reading)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a directory is not followed: it may lead round in a circle.
        if entry.file_type().with_context(reading)?.is_dir() {
            if recursive {
                found.extend(directory(&path, recursive)?);
            }
        } else if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
    Ok(found)
}
