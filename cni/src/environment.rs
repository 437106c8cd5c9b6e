//! The invocation's environment variables: the specification's section "Parameters", validated and bounded.
//!
//! Everything is checked before anything is asked of felix, so that a hostile value reaches no key, path or log unchecked.

use std::net::IpAddr;

use crate::error::{CniError, Code, shown};
use crate::version::SpecVersion;

/// Bounds, in octets. A runtime's ids are 64 hexadecimal digits; the rest has room for what people really use.
const ID_MAX: usize = 128;
const PATH_MAX: usize = 4096;
const ARGS_MAX: usize = 16 * 1024;

/// No interface can be made with these names: the loopback's, and folders among the kernel's settings of interfaces.
const RESERVED: [&str; 5] = ["lo", "all", "default", ".", ".."];

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    const ALL: [(&'static str, Command); 6] = [
        ("ADD", Command::Add),
        ("DEL", Command::Del),
        ("CHECK", Command::Check),
        ("GC", Command::Gc),
        ("STATUS", Command::Status),
        ("VERSION", Command::Version),
    ];

    /// The version of the specification that brought it.
    pub(crate) fn since(self) -> SpecVersion {
        match self {
            Command::Add | Command::Del | Command::Version => SpecVersion::V0_3_0,
            Command::Check => SpecVersion::V0_4_0,
            Command::Gc | Command::Status => SpecVersion::V1_1_0,
        }
    }
}

/// The attachment that ADD, DEL and CHECK are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    /// Empty when the runtime has none any more (DEL only).
    pub(crate) netns: String,
    /// Namespace and name of the pod, when Kubernetes' keys are there.
    pub(crate) pod: Option<(String, String)>,
    /// The address of `IP=`, if any.
    pub(crate) ip: Option<IpAddr>,
}

fn invalid(variable: &str, problem: impl AsRef<str>) -> CniError {
    CniError::new(
        Code::InvalidEnvironment,
        format!("environment variable {variable}: {}", problem.as_ref()),
    )
}

/// Reads one variable; an empty one counts as absent, as the reference implementation has it.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `CNI_COMMAND`.
pub(crate) fn command(get: Lookup<'_>) -> Result<Command, CniError> {
    let text = get("CNI_COMMAND")
        .ok_or_else(|| invalid("CNI_COMMAND", "missing; this program is run by a container runtime"))?;
    let known = Command::ALL.into_iter().find(|(name, _)| *name == text);
    known.map(|(_, command)| command).ok_or_else(|| {
        let names: Vec<&str> = Command::ALL.iter().map(|(name, _)| *name).collect();
        invalid(
            "CNI_COMMAND",
            format!("{} is none of {}", shown(&text), names.join(", ")),
        )
    })
}

/// The variables that `command` needs. `netns` is needed unless the attachment is to go.
pub(crate) fn target(command: Command, get: Lookup<'_>) -> Result<Target, CniError> {
    let need = |name: &str| get(name).ok_or_else(|| invalid(name, "missing"));
    let container_id = need("CNI_CONTAINERID")?;
    check_id("CNI_CONTAINERID", &container_id)?;
    let ifname = need("CNI_IFNAME")?;
    check_ifname(&ifname)?;
    let netns = if command == Command::Del {
        get("CNI_NETNS").unwrap_or_default()
    } else {
        need("CNI_NETNS")?
    };
    check_netns(&netns)?;
    let args = parse_args(&get("CNI_ARGS").unwrap_or_default())?;
    let pod = match (args.namespace, args.pod) {
        (Some(namespace), Some(pod)) => Some((namespace, pod)),
        (None, _) => None,
        (Some(_), None) => return Err(invalid("CNI_ARGS", "K8S_POD_NAMESPACE without K8S_POD_NAME")),
    };
    Ok(Target {
        container_id,
        ifname,
        netns,
        pod,
        ip: args.ip,
    })
}

/// The rule of container ids and network names: a letter or digit, then letters, digits, `_`, `.`, `-`.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() <= ID_MAX
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn check_id(variable: &str, id: &str) -> Result<(), CniError> {
    if is_id(id) {
        return Ok(());
    }
    Err(invalid(
        variable,
        format!(
            "{}: want a letter or digit, then letters, digits, '_', '.' and '-', {ID_MAX} at most",
            shown(id)
        ),
    ))
}

/// The kernel's rule of interface names.
pub(crate) fn check_ifname(name: &str) -> Result<(), CniError> {
    let bad = |c: char| matches!(c, '/' | ':' | '%' | '\u{fffd}') || c.is_ascii_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name.contains(bad) {
        let rule = "want 1 to 15 octets of UTF-8, none of them '/', ':', '%', a space or a control character";
        return Err(invalid("CNI_IFNAME", format!("{}: {rule}", shown(name))));
    }
    if RESERVED.contains(&name) {
        return Err(invalid("CNI_IFNAME", format!("{}: the name is reserved", shown(name))));
    }
    Ok(())
}

fn check_netns(path: &str) -> Result<(), CniError> {
    let plain = !path.contains(|c: char| c.is_control() || c == '\u{fffd}');
    if path.is_empty() || (path.starts_with('/') && path.len() <= PATH_MAX && plain) {
        return Ok(());
    }
    let rule = format!("want an absolute path of at most {PATH_MAX} octets of UTF-8 without control characters");
    Err(invalid("CNI_NETNS", format!("{}: {rule}", shown(path))))
}

#[derive(Default)]
struct Args {
    namespace: Option<String>,
    pod: Option<String>,
    ip: Option<IpAddr>,
}

/// `KEY=VALUE;KEY=VALUE`. Keys that mean nothing here are other plugins'.
fn parse_args(text: &str) -> Result<Args, CniError> {
    if text.len() > ARGS_MAX {
        return Err(invalid("CNI_ARGS", format!("longer than {ARGS_MAX} octets")));
    }
    let mut args = Args::default();
    let (mut namespace, mut pod) = (None, None);
    for pair in text.split(';').filter(|p| !p.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(invalid(
                "CNI_ARGS",
                format!("{}: want KEY=VALUE pairs separated by ';'", shown(pair)),
            ));
        };
        match key {
            "K8S_POD_NAMESPACE" => namespace = Some(value),
            "K8S_POD_NAME" => pod = Some(value),
            "IP" if !value.is_empty() => {
                let ip = value
                    .parse()
                    .map_err(|_| invalid("CNI_ARGS", format!("IP={}: no address", shown(value))))?;
                args.ip = Some(ip);
            }
            _ => {}
        }
    }
    // podman says the container's name and no namespace: that is a container of no pod, whatever its name.
    if let Some(namespace) = namespace.filter(|n| !n.is_empty()) {
        args.namespace = pod_name("K8S_POD_NAMESPACE", namespace)?;
        args.pod = pod_name("K8S_POD_NAME", pod.unwrap_or_default())?;
    }
    Ok(args)
}

/// An RFC 1123 subdomain; an empty value counts as absent.
fn pod_name(key: &str, value: &str) -> Result<Option<String>, CniError> {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |l: &str| {
        let b = l.as_bytes();
        b.iter().all(|c| alnum(c) || *c == b'-') && b.first().is_some_and(alnum) && b.last().is_some_and(alnum)
    };
    if value.is_empty() {
        return Ok(None);
    }
    if value.len() <= 253 && value.split('.').all(label) {
        return Ok(Some(value.to_owned()));
    }
    let rule = "want at most 253 of a-z, 0-9, '-' and '.', each label beginning and ending with a letter or digit";
    Err(invalid("CNI_ARGS", format!("{key}={}: {rule}", shown(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        move |name: &str| {
            pairs
                .iter()
                .find(|(k, v)| k == name && !v.is_empty())
                .map(|(_, v)| v.clone())
        }
    }

    const GOOD: [(&str, &str); 3] = [
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/x"),
    ];

    #[test]
    fn kubernetes_keys() {
        let mut pairs = GOOD.to_vec();
        pairs.push((
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=web-0;IP=10.0.0.9;X=a=b",
        ));
        let t = target(Command::Add, &env(&pairs)).unwrap();
        assert_eq!(t.pod, Some(("web".to_owned(), "web-0".to_owned())));
        assert_eq!(t.ip, Some("10.0.0.9".parse().unwrap()));
    }

    #[test]
    fn a_container_of_podman_is_of_no_pod() {
        let mut pairs = GOOD.to_vec();
        pairs.push((
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=;K8S_POD_NAME=My_App;K8S_POD_INFRA_CONTAINER_ID=c1",
        ));
        assert_eq!(target(Command::Add, &env(&pairs)).unwrap().pod, None);
        pairs.pop();
        pairs.push(("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=My_App"));
        assert_eq!(target(Command::Add, &env(&pairs)).unwrap().pod, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "x".repeat(10_000);
        let cases = [
            ("CNI_CONTAINERID", "", "CNI_CONTAINERID: missing"),
            ("CNI_CONTAINERID", "-x", "CNI_CONTAINERID: '-x'"),
            ("CNI_CONTAINERID", "../../etc", "CNI_CONTAINERID: '../../etc'"),
            ("CNI_CONTAINERID", &long, "CNI_CONTAINERID: 'xxxx"),
            ("CNI_IFNAME", "eth0/../x", "CNI_IFNAME: 'eth0/../x'"),
            ("CNI_IFNAME", "0123456789abcdef", "1 to 15 octets"),
            ("CNI_IFNAME", "a\u{1b}[2J", "'a\\u{1b}[2J'"),
            ("CNI_NETNS", "", "CNI_NETNS: missing"),
            ("CNI_NETNS", "relative", "absolute path"),
            ("CNI_ARGS", "novalue", "KEY=VALUE"),
            ("CNI_ARGS", "IP=x", "IP='x': no address"),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=a", "without K8S_POD_NAME"),
            ("CNI_ARGS", "K8S_POD_NAME=A/b;K8S_POD_NAMESPACE=d", "K8S_POD_NAME='A/b'"),
        ];
        for (name, value, want) in cases {
            let mut pairs: Vec<(&str, &str)> = GOOD.iter().copied().filter(|(k, _)| *k != name).collect();
            pairs.push((name, value));
            let e = target(Command::Add, &env(&pairs)).unwrap_err();
            assert_eq!(e.code, Code::InvalidEnvironment);
            assert!(e.message.contains(want), "{}: wanted {want}", e.message);
            assert!(e.message.len() < 400, "bounded");
        }
    }

    #[test]
    fn del_needs_no_namespace() {
        let t = target(Command::Del, &env(&GOOD[..2])).unwrap();
        assert_eq!(t.netns, "");
    }

    #[test]
    fn commands() {
        assert_eq!(command(&env(&[("CNI_COMMAND", "GC")])).unwrap(), Command::Gc);
        let e = command(&env(&[("CNI_COMMAND", "add")])).unwrap_err().message;
        assert!(
            e.contains("'add' is none of ADD, DEL, CHECK, GC, STATUS, VERSION"),
            "{e}"
        );
        assert!(command(&env(&[])).is_err());
    }
}
