//! `tortie install`: puts this program and a network configuration where a container runtime looks for them, and keeps
//! them right.
//!
//! Runtimes take a node for ready as soon as a configuration is there. So nothing is written before felix says that an ADD
//! can succeed; the program is in place before the configuration that names it; both are replaced by renaming, so that
//! nobody reads half a file. What is changed or removed afterwards is put right. When the program ends, both stay: pods
//! go on being deleted and checked while the node's daemons are exchanged.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tortie_kit::file::write_atomic;

use crate::client::Felix;
use crate::environment::Command;
use crate::netconf::{self, DEFAULT_FELIX};
use crate::version::SpecVersion;

/// Between two looks at what is installed, or at felix.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The configuration may hold a token of an older release: nobody else reads it.
const CONF_MODE: u32 = 0o600;
const BINARY_MODE: u32 = 0o755;

const USAGE: &str =
    "usage: tortie install [--once] [--bin-dir DIR] [--net-dir DIR] [--conf-name FILE] [--old-conf-name FILE]
                      [--network-config-file FILE] [--felix ADDR] [--mtu N] [--cni-version V]
Every option has an environment variable: CNI_BIN_DIR, CNI_NET_DIR, CNI_CONF_NAME, CNI_OLD_CONF_NAME,
CNI_NETWORK_CONFIG_FILE (or its text in CNI_NETWORK_CONFIG), TORTIE_FELIX, CNI_MTU; SLEEP=false is --once,
UPDATE_CNI_BINARIES=false leaves a program alone that is there.";

/// What to install, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    bin_dir: PathBuf,
    net_dir: PathBuf,
    conf_name: String,
    old_conf_name: Option<String>,
    /// The text of a configuration, with placeholders; ours when absent.
    template: Option<String>,
    felix: String,
    mtu: u32,
    cni_version: String,
    update_binary: bool,
    once: bool,
}

/// Why nothing is installed.
#[derive(Debug, thiserror::Error)]
enum InstallError {
    #[error("{0}\n{USAGE}")]
    Usage(String),
    #[error("network configuration: {0}")]
    Configuration(String),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0} does not run: {1}")]
    NotAProgram(String, String),
}

/// Runs `tortie install`; gives the exit status.
pub(crate) fn run(args: &[String], get: &dyn Fn(&str) -> Option<String>) -> u8 {
    const EX_USAGE: u8 = 64;
    let options = match options(args, get) {
        Ok(options) => options,
        Err(e) => {
            eprintln!("tortie: {e}");
            return EX_USAGE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime
        .map_err(InstallError::from)
        .and_then(|runtime| runtime.block_on(install(&options)));
    match done {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("tortie: {e}");
            1
        }
    }
}

fn options(args: &[String], get: &dyn Fn(&str) -> Option<String>) -> Result<Options, InstallError> {
    let is = |name: &str, value: &str| get(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    let mut flags = std::collections::BTreeMap::new();
    let mut once = is("SLEEP", "false");
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        const KNOWN: [&str; 8] = [
            "--bin-dir",
            "--net-dir",
            "--conf-name",
            "--old-conf-name",
            "--network-config-file",
            "--felix",
            "--mtu",
            "--cni-version",
        ];
        if name == "--once" && value.is_none() {
            once = true;
        } else if KNOWN.contains(&name) {
            let value = value.or_else(|| rest.next().cloned());
            flags.insert(
                name.to_owned(),
                value.ok_or_else(|| InstallError::Usage(format!("{name} wants a value")))?,
            );
        } else {
            return Err(InstallError::Usage(format!("unknown option {}", arg.escape_debug())));
        }
    }
    let value = |flag: &str, variable: &str| flags.get(flag).cloned().or_else(|| get(variable));
    let or = |flag, variable, default: &str| value(flag, variable).unwrap_or_else(|| default.to_owned());
    let file = value("--network-config-file", "CNI_NETWORK_CONFIG_FILE");
    let template = match file {
        Some(file) => Some(fs::read_to_string(&file).map_err(|e| InstallError::Usage(format!("{file}: {e}")))?),
        None => get("CNI_NETWORK_CONFIG"),
    };
    let mtu = or("--mtu", "CNI_MTU", "0");
    let conf_name = or("--conf-name", "CNI_CONF_NAME", "10-tortie.conflist");
    let old_conf_name = value("--old-conf-name", "CNI_OLD_CONF_NAME");
    for name in old_conf_name.iter().chain([&conf_name]) {
        if name.contains('/') || name.starts_with('.') {
            return Err(InstallError::Usage(format!(
                "{}: want the name of a file",
                name.escape_debug()
            )));
        }
    }
    Ok(Options {
        bin_dir: or("--bin-dir", "CNI_BIN_DIR", "/opt/cni/bin").into(),
        net_dir: or("--net-dir", "CNI_NET_DIR", "/etc/cni/net.d").into(),
        old_conf_name: old_conf_name.filter(|old| *old != conf_name),
        conf_name,
        template,
        felix: or("--felix", "TORTIE_FELIX", DEFAULT_FELIX),
        mtu: mtu
            .parse()
            .map_err(|_| InstallError::Usage(format!("--mtu {}: want a number", mtu.escape_debug())))?,
        cni_version: or("--cni-version", "CNI_VERSION", "1.0.0"),
        update_binary: !is("UPDATE_CNI_BINARIES", "false"),
        once,
    })
}

async fn install(options: &Options) -> Result<(), InstallError> {
    // A configuration that is wrong is said at once, not when felix is there.
    let _valid = conflist(options)?;
    let token = tortie_kit::shutdown::token()?;
    let end = token.clone();
    end.run_until_cancelled(keep(options, &token)).await.unwrap_or(Ok(()))
}

async fn keep(options: &Options, token: &CancellationToken) -> Result<(), InstallError> {
    let mut told = None;
    let mut failed = None;
    loop {
        match ready(options).await {
            Err(reason) => say(&mut told, format!("waiting, nothing is installed: {reason}")),
            Ok(()) => break,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    loop {
        match put_right(options) {
            Ok(done) => {
                failed = None;
                done.iter().for_each(|d| eprintln!("tortie: {d}"));
            }
            Err(e) if options.once => return Err(e),
            Err(e) => say(&mut failed, e.to_string()),
        }
        if options.once || token.is_cancelled() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Says a thing once, until it is another.
fn say(told: &mut Option<String>, text: String) {
    if told.as_ref() != Some(&text) {
        eprintln!("tortie: {text}");
        *told = Some(text);
    }
}

/// Could an ADD succeed now?
async fn ready(options: &Options) -> Result<(), String> {
    let said = |e: crate::error::CniError| match e.details.as_str() {
        "" => e.message,
        details => format!("{} ({details})", e.message),
    };
    let conf = plugin_conf(options).map_err(|e| e.to_string())?;
    let felix = Felix::connect(&conf, Command::Status).await.map_err(said)?;
    felix.ready(false).await.map(|_| ()).map_err(said)
}

fn plugin_conf(options: &Options) -> Result<netconf::NetConf, InstallError> {
    let wrong = |e: crate::error::CniError| InstallError::Configuration(e.message);
    let conf = json!({"cniVersion": "1.1.0", "name": "install", "type": "tortie", "felix": options.felix});
    let (object, version) = netconf::decode(conf.to_string().as_bytes()).map_err(wrong)?;
    netconf::parse(&object, version).map_err(wrong)
}

/// Compares what is installed with what should be, and replaces what differs. Says what was done.
fn put_right(options: &Options) -> Result<Vec<String>, InstallError> {
    let mut done = Vec::new();
    let target = options.bin_dir.join("tortie");
    if let Some(binary) = outdated(options, &target)? {
        install_binary(&binary, &target)?;
        done.push(format!("installed {}", target.display()));
    }
    let path = options.net_dir.join(&options.conf_name);
    let text = conflist(options)?;
    let same = fs::read(&path).is_ok_and(|there| there == text.as_bytes())
        && fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o777 == CONF_MODE);
    if !same {
        fs::create_dir_all(&options.net_dir)?;
        write_atomic(&path, text.as_bytes(), CONF_MODE)?;
        done.push(format!("wrote {}", path.display()));
        done.extend(preferred(options).map(|other| {
            format!(
                "warning: runtimes take {other} before {}: remove one of them",
                options.conf_name
            )
        }));
    }
    if let Some(old) = &options.old_conf_name {
        match fs::remove_file(options.net_dir.join(old)) {
            Ok(()) => done.push(format!("removed {old}")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

/// This program, when what is at `target` is not the same.
fn outdated(options: &Options, target: &Path) -> Result<Option<Vec<u8>>, InstallError> {
    if !options.update_binary && target.exists() {
        return Ok(None);
    }
    let own = fs::read("/proc/self/exe")?;
    let same = fs::read(target).is_ok_and(|there| there == own)
        && fs::metadata(target).is_ok_and(|m| m.permissions().mode() & 0o111 == 0o111);
    Ok((!same).then_some(own))
}

/// Written beside its place, run once, and renamed: a runtime that executes it meanwhile has the old one or the new one.
fn install_binary(binary: &[u8], target: &Path) -> Result<(), InstallError> {
    let directory = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let trial = directory.join(format!(".tortie-{}", std::process::id()));
    let tried = (|| {
        write_atomic(&trial, binary, BINARY_MODE)?;
        let ran = Process::new(&trial).arg("--version").output();
        let wrong = |why: String| InstallError::NotAProgram(trial.display().to_string(), why);
        match ran {
            Ok(ran) if ran.status.success() => Ok(fs::rename(&trial, target)?),
            Ok(ran) => Err(wrong(ran.status.to_string())),
            Err(e) => Err(wrong(e.to_string())),
        }
    })();
    if tried.is_err() {
        let _not_left = fs::remove_file(&trial);
    }
    tried
}

/// Another configuration that sorts before ours, which is the one that runtimes take.
fn preferred(options: &Options) -> Option<String> {
    let listed = fs::read_dir(&options.net_dir).ok()?;
    let names = listed.flatten().filter_map(|e| e.file_name().into_string().ok());
    let confs = names.filter(|n| [".conf", ".conflist", ".json"].iter().any(|s| n.ends_with(s)));
    confs
        .filter(|n| *n < options.conf_name && options.old_conf_name.as_ref() != Some(n))
        .min()
}

/// The text of the configuration list: the template's, else ours, with portmap and bandwidth behind it when they are
/// installed.
fn conflist(options: &Options) -> Result<String, InstallError> {
    let Some(template) = &options.template else {
        let mut plugins = vec![json!({
            "type": "tortie",
            "felix": options.felix,
            "mtu": options.mtu,
            "ipam": {"type": "calico-ipam"},
            "policy": {"type": "k8s"},
            "capabilities": {crate::annotations::CAPABILITY: true, "ips": true},
        })];
        if options.bin_dir.join("portmap").exists() {
            plugins.push(json!({"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}));
        }
        if options.bin_dir.join("bandwidth").exists() {
            plugins.push(json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}));
        }
        let list = json!({"name": "k8s-pod-network", "cniVersion": options.cni_version, "plugins": plugins});
        check(&list)?;
        return Ok(format!("{list:#}\n"));
    };
    let text = template
        .replace("__CNI_MTU__", &options.mtu.to_string())
        .replace("__FELIX__", &options.felix)
        .replace("__LOG_LEVEL__", "info");
    let list: Value = serde_json::from_str(&text).map_err(|e| InstallError::Configuration(format!("not JSON: {e}")))?;
    check(&list)?;
    Ok(text)
}

/// Would the plugin take it?
fn check(list: &Value) -> Result<(), InstallError> {
    let wrong = |text: &str| InstallError::Configuration(text.to_owned());
    let plugins = list["plugins"]
        .as_array()
        .ok_or_else(|| wrong("want a list in 'plugins'"))?;
    let own = plugins.iter().find(|p| p["type"] == "tortie");
    let own = own.ok_or_else(|| wrong("no plugin of type 'tortie' among 'plugins'"))?;
    let mut conf = own.clone();
    conf["name"] = list["name"].clone();
    conf["cniVersion"] = list["cniVersion"].clone();
    let taken = netconf::decode(conf.to_string().as_bytes())
        .and_then(|(object, version): (_, SpecVersion)| netconf::parse(&object, version));
    taken.map(|_| ()).map_err(|e| wrong(&e.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Options, InstallError> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        options(&args, &|name| {
            env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn options_come_from_flags_and_calicos_variables() {
        let plain = parse(&[], &[]).unwrap();
        assert_eq!(plain.conf_name, "10-tortie.conflist");
        assert!(!plain.once && plain.update_binary);
        let set = [
            ("CNI_BIN_DIR", "/b"),
            ("CNI_MTU", "1450"),
            ("SLEEP", "false"),
            ("UPDATE_CNI_BINARIES", "false"),
        ];
        let options = parse(&["--net-dir=/n", "--mtu", "1400"], &set).unwrap();
        assert_eq!(
            (options.bin_dir, options.net_dir, options.mtu),
            ("/b".into(), "/n".into(), 1400)
        );
        assert!(options.once && !options.update_binary);
        for (args, said) in [
            (&["--mtu", "x"][..], "want a number"),
            (&["--mtu"], "wants a value"),
            (&["--frob"], "unknown option --frob"),
            (&["--conf-name", "../x"], "want the name of a file"),
        ] {
            let e = parse(args, &[]).unwrap_err().to_string();
            assert!(e.contains(said) && e.contains("usage:"), "{args:?}: {e}");
        }
    }

    #[test]
    fn a_template_is_checked_as_the_plugin_would() {
        let with =
            |template: &str| conflist(&parse(&[], &[("CNI_NETWORK_CONFIG", template), ("CNI_MTU", "1450")]).unwrap());
        let good = r#"{"name": "n", "cniVersion": "1.1.0", "plugins": [{"type": "tortie", "mtu": __CNI_MTU__}]}"#;
        assert!(with(good).unwrap().contains("1450"));
        for (bad, said) in [
            ("{", "not JSON"),
            ("{}", "'plugins'"),
            (
                r#"{"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}"#,
                "no plugin of type 'tortie'",
            ),
            (
                r#"{"name": "a b", "cniVersion": "1.0.0", "plugins": [{"type": "tortie"}]}"#,
                "'name' = 'a b'",
            ),
            (
                r#"{"name": "n", "cniVersion": "9.0.0", "plugins": [{"type": "tortie"}]}"#,
                "version",
            ),
        ] {
            let e = with(bad).unwrap_err().to_string();
            assert!(e.contains(said), "{bad}: {e}");
        }
    }
}
