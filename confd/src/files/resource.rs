//! Template resources: `conf.d/*.toml` says what is made of which template, and who is told.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};
use serde::Deserialize;

use super::keys::normal;

/// The folders of a configuration directory.
const RESOURCES: &str = "conf.d";
const TEMPLATES: &str = "templates";
/// What a new file is, when nothing is said: readable by all.
const DEFAULT_MODE: u32 = 0o644;

/// One file to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its file in `conf.d`, for messages.
    pub named: PathBuf,
    /// The template.
    pub src: PathBuf,
    /// The file to keep.
    pub dest: PathBuf,
    /// The paths whose keys the template reads, seen from `prefix`.
    pub keys: Vec<String>,
    /// Put before every key at the source, and not seen by the template.
    pub prefix: String,
    /// Permission bits.
    pub mode: u32,
    /// Who owns the file; nothing: whoever runs confd.
    pub owner: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// A shell command; the file replaces the old one when it succeeds. `{{.src}}` stands for the new file.
    pub check_cmd: Option<String>,
    /// A shell command, run after the file was replaced.
    pub reload_cmd: Option<String>,
}

/// A template resource that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct BadResource {
    /// The file or folder.
    pub file: PathBuf,
    /// What is wrong, with its line where there is one.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    template: Template,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u32),
    Name(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    src: String,
    dest: PathBuf,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    prefix: String,
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    owner: Option<Id>,
    group: Option<Id>,
    check_cmd: Option<String>,
    reload_cmd: Option<String>,
}

/// Every resource of the directory, in the order of their files' names. `prefix` comes before each one's own.
///
/// # Errors
/// [`BadResource`] names the file. One that is wrong is an error of all: a half of a configuration is no configuration.
pub fn load(confdir: &Path, prefix: &str) -> Result<Vec<Resource>, BadResource> {
    let folder = confdir.join(RESOURCES);
    let bad = |e: std::io::Error| BadResource {
        file: folder.clone(),
        reason: e.to_string(),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(bad)? {
        let path = entry.map_err(bad)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let reason = "there is no template resource (*.toml)".to_owned();
        return Err(BadResource { file: folder, reason });
    }
    let resources: Vec<Resource> = files
        .iter()
        .map(|f| read(confdir, f, prefix))
        .collect::<Result<_, _>>()?;
    for (at, resource) in resources.iter().enumerate() {
        if let Some(other) = resources[..at].iter().find(|r| r.dest == resource.dest) {
            let reason = format!(
                "{} has the same dest, {}",
                other.named.display(),
                resource.dest.display()
            );
            let file = resource.named.clone();
            return Err(BadResource { file, reason });
        }
    }
    Ok(resources)
}

fn read(confdir: &Path, file: &Path, prefix: &str) -> Result<Resource, BadResource> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string());
    let resource = text.and_then(|text| parse(confdir, file, prefix, &text));
    resource.map_err(|reason| BadResource {
        file: file.to_owned(),
        reason,
    })
}

/// One resource from its text.
///
/// # Errors
/// What is wrong, with the line where it is one of syntax.
pub fn parse(confdir: &Path, file: &Path, prefix: &str, text: &str) -> Result<Resource, String> {
    let Document { template } = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
    if !template.dest.is_absolute() || template.dest.file_name().is_none() {
        return Err(format!(
            "dest: '{}' is not the absolute path of a file",
            template.dest.display()
        ));
    }
    let mode = template.mode.as_deref().map_or(Ok(DEFAULT_MODE), mode)?;
    let owner = id(template.owner, template.uid, ("owner", "uid"), user)?;
    let group = id(template.group, template.gid, ("group", "gid"), group)?;
    let keys = match template.keys {
        keys if keys.is_empty() => vec!["/".to_owned()],
        keys => keys.iter().map(|k| normal(k)).collect(),
    };
    Ok(Resource {
        named: file.to_owned(),
        src: confdir.join(TEMPLATES).join(template.src),
        dest: template.dest,
        keys,
        prefix: normal(&format!("{prefix}/{}", template.prefix)),
        mode,
        owner,
        group,
        check_cmd: template.check_cmd.filter(|c| !c.is_empty()),
        reload_cmd: template.reload_cmd.filter(|c| !c.is_empty()),
    })
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("mode: '{text}' is not three octal digits, as \"0644\"")),
    }
}

/// The number that is given, or that the name has on this machine.
fn id(
    named: Option<Id>,
    number: Option<u32>,
    fields: (&str, &str),
    find: fn(&str) -> Option<u32>,
) -> Result<Option<u32>, String> {
    match (named, number) {
        (Some(_), Some(_)) => Err(format!("{} and {} are the same: give one", fields.0, fields.1)),
        (Some(Id::Name(name)), None) => {
            let found = find(&name);
            found
                .map(Some)
                .ok_or_else(|| format!("{}: this machine has no '{name}'", fields.0))
        }
        (Some(Id::Number(id)), None) | (None, Some(id)) => Ok(Some(id)),
        (None, None) => Ok(None),
    }
}

fn user(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|u| Uid::as_raw(u.uid))
}

fn group(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|g| Gid::as_raw(g.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Resource, String> {
        parse(Path::new("/c"), Path::new("/c/conf.d/a.toml"), "/p", text)
    }

    #[test]
    fn a_resource_as_users_write_it() {
        let text = r#"
            [template]
            prefix = "/myapp"
            src = "app.conf.tmpl"
            dest = "/etc/app.conf"
            owner = "root"
            gid = 7
            mode = "0640"
            keys = ["/database/", "name"]
            check_cmd = "check {{.src}}"
            reload_cmd = ""
        "#;
        let r = of(text).unwrap();
        assert_eq!(r.src, Path::new("/c/templates/app.conf.tmpl"));
        assert_eq!((r.mode, r.owner, r.group), (0o640, Some(0), Some(7)));
        assert_eq!(
            (r.prefix.as_str(), r.keys),
            ("/p/myapp", vec!["/database".to_owned(), "/name".to_owned()])
        );
        assert_eq!((r.check_cmd.as_deref(), r.reload_cmd), (Some("check {{.src}}"), None));
        let short = of("[template]\nsrc = \"a\"\ndest = \"/a\"").unwrap();
        assert_eq!((short.mode, short.keys), (0o644, vec!["/".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |line: &str| format!("[template]\nsrc = \"a\"\ndest = \"/a\"\n{line}\n");
        let cases = [
            ("".to_owned(), "missing field `template`"),
            ("[template]\nsrc = 1\n".to_owned(), "line 2"),
            (with("chek_cmd = \"x\""), "unknown field `chek_cmd`"),
            (with("mode = \"rw\""), "mode: 'rw'"),
            (with("mode = \"07777\""), "mode: '07777'"),
            (
                with("owner = \"nobody-at-all\""),
                "owner: this machine has no 'nobody-at-all'",
            ),
            (with("owner = 1\nuid = 1"), "owner and uid"),
            ("[template]\nsrc = \"a\"\ndest = \"a\"".to_owned(), "dest: 'a'"),
        ];
        for (text, want) in cases {
            let e = of(&text).unwrap_err();
            assert!(e.contains(want), "{text}: {e}");
        }
    }

    #[test]
    fn two_cannot_keep_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("conf.d");
        assert!(load(dir.path(), "").unwrap_err().to_string().contains("conf.d"));
        std::fs::create_dir(&folder).unwrap();
        assert!(
            load(dir.path(), "")
                .unwrap_err()
                .to_string()
                .contains("no template resource")
        );
        for name in ["b.toml", "a.toml"] {
            std::fs::write(folder.join(name), "[template]\nsrc = \"a\"\ndest = \"/a\"").unwrap();
        }
        let e = load(dir.path(), "").unwrap_err().to_string();
        assert!(e.contains("b.toml: ") && e.contains("a.toml has the same dest"), "{e}");
    }
}
