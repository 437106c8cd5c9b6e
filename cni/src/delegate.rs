//! Address management by another plugin: found in `CNI_PATH` and asked as the specification's section "Delegated plugins"
//! says, with this invocation's environment and its configuration.
//!
//! In the `ipam` section `usePodCidr` and `usePodCidrIPv6` stand for the node's pod CIDRs, as in Calico. A delegate that
//! does not know this configuration's version is asked in the newest one that both know, and not for commands that came
//! later. Nothing here outlives [`PATIENCE`].

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::environment::Command;
use crate::error::{CniError, Code, shown};
use crate::version::SpecVersion;

/// How long a delegate may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest answer read.
const ANSWER_MAX: u64 = 1 << 20;
/// What a delegate reads when the pod CIDRs do not matter: it releases by container. As in Calico.
const ANY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// A plugin that manages addresses.
#[derive(Debug)]
pub(crate) struct Delegate {
    name: String,
    path: PathBuf,
    version: SpecVersion,
    stdin: Vec<u8>,
}

/// What the delegate gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) dns: Option<Value>,
}

impl Delegate {
    /// Finds it, and prepares what it is to read. `cidrs`: the node's pod CIDRs, `None` when they do not matter.
    pub(crate) async fn find(
        name: &str,
        search: Option<&str>,
        object: &Map<String, Value>,
        version: SpecVersion,
        cidrs: Option<&[String]>,
    ) -> Result<Self, CniError> {
        let mut delegate = Delegate {
            name: name.to_owned(),
            path: executable(name, search.unwrap_or_default())?,
            version,
            stdin: Vec::new(),
        };
        let mut conf = object.clone();
        if let Some(ipam) = conf.get_mut("ipam") {
            substitute(ipam, cidrs)?;
        }
        // Few plugins know the newest version already; what everybody knows needs no question.
        if version > SpecVersion::V1_0_0 {
            delegate.version = delegate.common_version().await?;
            conf.insert("cniVersion".to_owned(), delegate.version.as_str().into());
        }
        delegate.stdin = Value::Object(conf).to_string().into_bytes();
        Ok(delegate)
    }

    /// The newest version that both know.
    async fn common_version(&self) -> Result<SpecVersion, CniError> {
        let said: Value = serde_json::from_slice(&self.run("VERSION").await?).unwrap_or_default();
        let supported = said["supportedVersions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let knows = |v: &SpecVersion| supported.iter().any(|s| s.as_str() == Some(v.as_str()));
        let common = SpecVersion::ALL.into_iter().filter(|v| *v <= self.version).rfind(knows);
        common.ok_or_else(|| {
            CniError::new(Code::IncompatibleVersion, "incompatible CNI versions").details(format!(
                "plugin {} supports {}",
                self.name,
                shown(&Value::from(supported).to_string())
            ))
        })
    }

    /// Addresses for the container.
    pub(crate) async fn add(&self) -> Result<Given, CniError> {
        let answer = self.run("ADD").await?;
        let given = given(&answer);
        if given.is_err() {
            // It may have given some.
            self.undo().await;
        }
        given.map_err(|why| {
            CniError::new(Code::Internal, format!("plugin {} gave no addresses: {why}", self.name))
                .details(shown(&String::from_utf8_lossy(&answer)))
        })
    }

    /// Gives back what [`Delegate::add`] got. A failure of that would hide the first; the runtime's DEL does it again.
    pub(crate) async fn undo(&self) {
        if let Err(e) = self.run("DEL").await {
            eprintln!("tortie: undoing an ADD: {e}");
        }
    }

    /// DEL, CHECK, GC or STATUS, if it knows the command.
    pub(crate) async fn pass_on(&self, command: Command) -> Result<(), CniError> {
        let name = match command {
            Command::Add | Command::Version => return Ok(()),
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
        };
        if command.since() > self.version {
            return Ok(());
        }
        self.run(name).await.map(drop)
    }

    /// Runs it and gives its standard output.
    async fn run(&self, command: &str) -> Result<Vec<u8>, CniError> {
        let failed = |what: &str, e: std::io::Error| {
            CniError::new(Code::Internal, format!("plugin {}: {what}", self.name))
                .details(format!("{}: {e}", self.path.display()))
        };
        let mut child = tokio::process::Command::new(&self.path)
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed("it cannot be started", e))?;
        let (mut input, output) = (child.stdin.take(), child.stdout.take());
        let talk = async {
            let write = async {
                if let Some(mut pipe) = input.take() {
                    // One that has read enough closes the pipe; what it thinks of it, it says.
                    let _unread = pipe.write_all(&self.stdin).await;
                }
            };
            let read = async {
                let mut answer = Vec::new();
                if let Some(pipe) = output {
                    pipe.take(ANSWER_MAX).read_to_end(&mut answer).await?;
                }
                Ok::<_, std::io::Error>(answer)
            };
            let ((), answer) = tokio::join!(write, read);
            Ok((answer?, child.wait().await?))
        };
        let (answer, status) = match tokio::time::timeout(PATIENCE, talk).await {
            Ok(done) => done.map_err(|e| failed("it cannot be talked to", e))?,
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                let message = format!("plugin {} gave no answer within {seconds} s", self.name);
                return Err(CniError::new(Code::TryAgainLater, message));
            }
        };
        if status.success() {
            return Ok(answer);
        }
        Err(self.refusal(&answer, status))
    }

    /// Its error, with its name before it.
    fn refusal(&self, answer: &[u8], status: std::process::ExitStatus) -> CniError {
        let error: Value = serde_json::from_slice(answer).unwrap_or_default();
        let text = |field: &str| error[field].as_str().unwrap_or_default();
        let code = error["code"].as_u64().and_then(|c| u32::try_from(c).ok());
        let message = match text("msg") {
            "" => status.to_string(),
            said => said.to_owned(),
        };
        CniError::new(
            code.map_or(Code::Internal, Code::Other),
            format!("plugin {}: {message}", self.name),
        )
        .details(text("details"))
    }
}

/// The first program of this name in a list of folders.
fn executable(name: &str, search: &str) -> Result<PathBuf, CniError> {
    let folders = search.split(':').filter(|f| f.starts_with('/'));
    let is_program = |path: &PathBuf| {
        let meta = std::fs::metadata(path);
        meta.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let found = folders.map(|f| Path::new(f).join(name)).find(is_program);
    found.ok_or_else(|| {
        let message = format!("plugin {name} of field 'ipam.type' is in no folder of CNI_PATH");
        CniError::new(Code::InvalidEnvironment, message).details(format!("CNI_PATH = {}", shown(search)))
    })
}

/// Puts the pod CIDRs where the configuration speaks of them.
fn substitute(ipam: &mut Value, cidrs: Option<&[String]>) -> Result<(), CniError> {
    let of_family = |six: bool| match cidrs {
        None => Ok(ANY[usize::from(six)].to_owned()),
        Some(cidrs) => cidrs.iter().find(|c| c.contains(':') == six).cloned().ok_or_else(|| {
            let family = if six { "IPv6" } else { "IPv4" };
            CniError::new(Code::TryAgainLater, format!("this node has no {family} pod CIDR yet"))
                .details("'ipam' wants it; it is looked for in status.podCIDRs of the Node")
        }),
    };
    match ipam {
        Value::String(text) if text == "usePodCidr" => *text = of_family(false)?,
        Value::String(text) if text == "usePodCidrIPv6" => *text = of_family(true)?,
        Value::Array(list) => list.iter_mut().try_for_each(|v| substitute(v, cidrs))?,
        Value::Object(fields) => fields.values_mut().try_for_each(|v| substitute(v, cidrs))?,
        _ => {}
    }
    Ok(())
}

/// Does the configuration speak of pod CIDRs?
pub(crate) fn wants_pod_cidrs(ipam: &Value) -> bool {
    match ipam {
        Value::String(text) => text == "usePodCidr" || text == "usePodCidrIPv6",
        Value::Array(list) => list.iter().any(wants_pod_cidrs),
        Value::Object(fields) => fields.values().any(wants_pod_cidrs),
        _ => false,
    }
}

/// The addresses of a result.
fn given(answer: &[u8]) -> Result<Given, &'static str> {
    let result: Value = serde_json::from_slice(answer).map_err(|_| "its answer is no JSON")?;
    let listed = result["ips"].as_array().ok_or("its answer has no list 'ips'")?;
    let address = |ip: &Value| {
        let (address, _length) = ip["address"].as_str()?.split_once('/')?;
        address.parse().ok()
    };
    let ips: Option<Vec<IpAddr>> = listed.iter().map(address).collect();
    let ips = ips.ok_or("its answer has an address that is none")?;
    if ips.is_empty() {
        return Err("its answer has none");
    }
    let dns = result
        .get("dns")
        .filter(|d| d.as_object().is_some_and(|d| !d.is_empty()));
    Ok(Given { ips, dns: dns.cloned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pod_cidrs_are_put_wherever_they_are_spoken_of() {
        let conf = json!({"type": "host-local", "subnet": "usePodCidr", "dataDir": "/x",
            "ranges": [[{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6", "rangeStart": "fd00::5"}]]});
        assert!(wants_pod_cidrs(&conf) && !wants_pod_cidrs(&json!({"subnet": "10.0.0.0/24"})));
        let cidrs = ["10.65.1.0/24".to_owned(), "fd00::/64".to_owned()];
        let mut own = conf.clone();
        substitute(&mut own, Some(&cidrs)).unwrap();
        assert_eq!(
            own,
            json!({"type": "host-local", "subnet": "10.65.1.0/24", "dataDir": "/x",
                "ranges": [[{"subnet": "10.65.1.0/24"}], [{"subnet": "fd00::/64", "rangeStart": "fd00::5"}]]})
        );
        let mut any = conf.clone();
        substitute(&mut any, None).unwrap();
        assert_eq!(
            (&any["subnet"], &any["ranges"][1][0]["subnet"]),
            (&json!("0.0.0.0/0"), &json!("::/0"))
        );
        let e = substitute(&mut conf.clone(), Some(&cidrs[..1])).unwrap_err();
        assert_eq!(e.code, Code::TryAgainLater);
        assert!(
            e.message.contains("no IPv6 pod CIDR") && e.details.contains("status.podCIDRs"),
            "{e:?}"
        );
    }

    #[test]
    fn a_result_without_addresses_is_none() {
        let good = json!({"ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"version": "6", "address": "fd00::5/64"}],
            "dns": {"nameservers": ["192.0.2.53"]}});
        let read = given(good.to_string().as_bytes()).unwrap();
        assert_eq!(read.ips, ["10.0.0.5", "fd00::5"].map(|t| t.parse::<IpAddr>().unwrap()));
        assert!(read.dns.is_some());
        for (bad, why) in [
            ("", "no JSON"),
            ("[]", "no list"),
            ("{\"ips\": []}", "has none"),
            ("{\"ips\": [{\"address\": \"10.0.0.5\"}]}", "an address that is none"),
            (
                "{\"ips\": [{\"address\": \"10.0.0.500/24\"}]}",
                "an address that is none",
            ),
            ("{\"ips\": [7]}", "an address that is none"),
        ] {
            assert!(given(bad.as_bytes()).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn only_programs_in_the_path_are_run() {
        let e = executable("host-local", "relative:/nonexistent").unwrap_err();
        assert_eq!(e.code, Code::InvalidEnvironment);
        assert!(e.details.contains("relative"), "{e:?}");
        // A folder and a plain file are no programs.
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("host-local")).unwrap();
        std::fs::write(dir.path().join("static"), "").unwrap();
        let path = dir.path().display().to_string();
        assert!(executable("host-local", &path).is_err() && executable("static", &path).is_err());
        assert_eq!(executable("sh", &format!("{path}:/bin")).unwrap(), Path::new("/bin/sh"));
    }
}
