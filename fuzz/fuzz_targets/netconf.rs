//! What a runtime says to the CNI plugin: whatever it is, it is understood or refused in bounded words that a terminal
//! and a log can show.
#![no_main]
// The plugin is a program: its modules are taken as they are, with what only the rest of it uses.
#![allow(dead_code)]

#[path = "../../cni/src/annotations.rs"]
mod annotations;
#[path = "../../cni/src/environment.rs"]
mod environment;
#[path = "../../cni/src/error.rs"]
mod error;
#[path = "../../cni/src/input.rs"]
mod input;
#[path = "../../cni/src/netconf.rs"]
mod netconf;
#[path = "../../cni/src/version.rs"]
mod version;

use libfuzzer_sys::fuzz_target;

const COMMANDS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

// The first octet is the command; up to the first NUL CNI_ARGS, up to the second CNI_IFNAME, the rest standard input.
fuzz_target!(|data: &[u8]| {
    let Some((command, rest)) = data.split_first() else {
        return;
    };
    let mut parts = rest.splitn(3, |b| *b == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (args, ifname) = (text(), text());
    let stdin = parts.next().unwrap_or_default();
    let get = |name: &str| match name {
        "CNI_COMMAND" => Some(COMMANDS[usize::from(*command) % COMMANDS.len()].to_owned()),
        "CNI_CONTAINERID" => Some("c1".to_owned()),
        "CNI_NETNS" => Some("/run/netns/x".to_owned()),
        "CNI_IFNAME" if ifname.is_empty() => Some("eth0".to_owned()),
        "CNI_IFNAME" => Some(ifname.clone()),
        "CNI_ARGS" => Some(args.clone()),
        _ => None,
    };
    let mut version = version::SpecVersion::CURRENT;
    let read = environment::command(&get).and_then(|command| {
        input::target(command, &get)?;
        input::configuration(command, stdin, &mut version)
    });
    match read {
        Ok((_, conf)) => {
            let warnings = &conf.warnings;
            assert!(warnings.iter().all(|w| w.len() < 1024 && is_plain(w)), "{warnings:?}");
        }
        Err(error) => {
            let error = error.to_json(version);
            let text = error.to_string();
            assert!(text.len() < 4096, "{text}");
            for field in ["msg", "details"] {
                assert!(error[field].as_str().is_none_or(is_plain), "{text}");
            }
            assert!(error["code"].is_u64() && error["cniVersion"].is_string(), "{text}");
        }
    }
});
