//! Dumps of our tables, read by others: bgpdump, GoBGP and OpenBGPD.

use std::process::Command;

use serde_json::{Value, json};

use crate::foreign::{OUR_AS, THEIR_AS, ours, said};
use crate::lab::{Lab, Running, eventually, run, tool};

/// Two of ours with a session: side a has its own routes and those of b.
fn pair(lab: &Lab, more: &str) -> (Running, Running) {
    let far = format!(
        "router id 10.77.0.2;
protocol device {{ }}
protocol static own4 {{ ipv4; route 10.99.0.0/24 blackhole; route 10.99.1.0/24 blackhole; }}
protocol static own6 {{ ipv6; route fd99::/64 blackhole; }}
filter mine {{
  bgp_med = 50; bgp_community.add((65002,1)); bgp_large_community.add((65002,1,2)); bgp_path.prepend(65010);
  accept;
}}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; local 10.77.0.2 as {THEIR_AS}; neighbor 10.77.0.1 as {OUR_AS};
  ipv4 {{ import all; export filter mine; }};
  ipv6 {{ import all; export filter mine; next hop address fd77::2; }};
}}
"
    );
    let near = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};"));
    let daemons = (lab.bird_rs("a", &format!("{near}{more}")), lab.bird_rs("b", &far));
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns(
        "Peer",
        &[
            "10.99.0.0/24 via 10.77.0.2",
            "10.99.1.0/24 via 10.77.0.2",
            "fd99::/64 via fd77::2",
        ],
    );
    daemons
}

/// Each route as bgpdump prints it on one line, without the time. It does not know large communities.
fn bgpdump(lab: &Lab, file: &str) -> Vec<String> {
    let output = run(Command::new(tool("/usr/bin/bgpdump")).arg("-m").arg(lab.path(file)));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text
        .lines()
        .map(|line| line.split('|').skip(3).collect::<Vec<_>>().join("|"));
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}

#[test]
fn a_dump_on_command_is_read_by_bgpdump_gobgp_and_openbgpd() {
    let lab = Lab::new();
    let _daemons = pair(&lab, "");
    for table in ["master4", "master6"] {
        let file = lab.path(&format!("{table}.mrt"));
        let said = lab.birdc_of("a", &format!("mrt dump table {table} to \"{}\"", file.display()));
        assert!(said.contains(" prefixes of "), "{said}");
    }
    let rows = bgpdump(&lab, "master4.mrt");
    assert_eq!(rows.len(), 4, "{rows:?}");
    let path = format!("{THEIR_AS} 65010");
    let row = |prefix: &str| format!("10.77.0.2|{THEIR_AS}|{prefix}|{path}|IGP|10.77.0.2|100|50|65002:1|NAG||");
    assert_eq!(rows[2..], [row("10.99.0.0/24"), row("10.99.1.0/24")]);
    let rows = bgpdump(&lab, "master6.mrt");
    let row = format!("10.77.0.2|{THEIR_AS}|fd99::/64|{path}|IGP|fd77::2|100|50|65002:1|NAG||");
    assert!(rows.contains(&row), "{rows:?}");
    gobgp_reads(&lab);
    openbgpd_reads(&lab);
}

/// GoBGP takes the dump for the table of a router and must show the same routes. Its IPv4 ones: before 3.16 it does not read
/// the short MP_REACH_NLRI of RFC 6396.
fn gobgp_reads(lab: &Lab) {
    let config = json!({"global": {"config": {"as": 64999, "router-id": "10.77.0.9", "port": -1}}});
    let config = lab.write("reader.json", &config.to_string());
    let mut command = lab.command("b", tool("/usr/bin/gobgpd"));
    command.arg("-f").arg(config).args(["-t", "json"]);
    let _reader = lab.spawn(command, "reader");
    let gobgp = || lab.command("b", tool("/usr/bin/gobgp"));
    eventually("gobgp answers", || said(gobgp().args(["global"])));
    // At the end of the file it ends at once, and what it has not sent yet is lost: this file ends after the look.
    let pipe = lab.path("master4.pipe");
    run(Command::new("mkfifo").arg(&pipe));
    let mut command = gobgp();
    command.args(["mrt", "inject", "global"]).arg(&pipe);
    let mut inject = lab.spawn(command, "inject");
    let mut writer = std::fs::File::options().write(true).open(&pipe).unwrap();
    let dump = std::fs::read(lab.path("master4.mrt")).unwrap();
    std::io::Write::write_all(&mut writer, &dump).unwrap();
    let shown: Value = eventually("gobgp shows the routes", || {
        let shown = said(gobgp().args(["-j", "global", "rib", "-a", "ipv4"]))?;
        let shown: Value = serde_json::from_str(&shown).ok()?;
        (shown.as_object()?.len() == 4).then_some(shown)
    });
    drop(writer);
    assert!(inject.ended().success(), "{}", lab.log("inject"));
    let attribute = |prefix: &str, code: u64| -> Value {
        let attributes = shown[prefix][0]["attrs"].as_array().unwrap();
        let found = attributes.iter().find(|attribute| attribute["type"] == code);
        found
            .unwrap_or_else(|| panic!("{prefix} has no attribute {code}: {shown}"))
            .clone()
    };
    for prefix in ["10.99.0.0/24", "10.99.1.0/24"] {
        let path = &attribute(prefix, 2)["as_paths"][0]["asns"];
        assert_eq!(*path, json!([THEIR_AS, 65010]));
        assert_eq!(attribute(prefix, 3)["nexthop"], "10.77.0.2");
        assert_eq!(attribute(prefix, 4)["metric"], 50);
        assert_eq!(attribute(prefix, 5)["value"], 100);
        assert_eq!(attribute(prefix, 8)["communities"], json!([(65002_u32 << 16) + 1]));
        let large = json!([{"ASN": 65002, "LocalData1": 1, "LocalData2": 2}]);
        assert_eq!(attribute(prefix, 32)["value"], large);
    }
    // Ours lead nowhere.
    assert_eq!(attribute("10.244.0.0/26", 3)["nexthop"], "0.0.0.0");
}

/// Its command line reads dumps without the daemon.
fn openbgpd_reads(lab: &Lab) {
    let show = |file: &str| {
        let mut command = Command::new(tool("/usr/sbin/bgpctl"));
        command.args(["show", "mrt", "detail", "file"]).arg(lab.path(file));
        String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
    };
    for (file, routes, next_hop) in [
        ("master4.mrt", &["10.99.0.0/24", "10.99.1.0/24"][..], "10.77.0.2"),
        ("master6.mrt", &["fd99::/64"], "fd77::2"),
    ] {
        let text = show(file);
        let entries: Vec<&str> = text.split("BGP routing table entry for ").skip(1).collect();
        for route in routes {
            let entry = entries.iter().find(|entry| entry.starts_with(route));
            let entry = entry.unwrap_or_else(|| panic!("{route} is not there: {text}"));
            for wanted in [
                &*format!("{THEIR_AS} 65010"),
                &format!("Nexthop {next_hop} "),
                "Neighbor 10.77.0.2 (10.77.0.2)",
                "metric 50, localpref 100",
                "Communities: 65002:1",
                "Large Communities: 65002:1:2",
            ] {
                assert!(entry.contains(wanted), "{wanted}: {entry}");
            }
        }
    }
}

/// A file system that goes with its value.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that fails must not leave it behind.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_dump_that_cannot_be_written_harms_nothing() {
    let lab = Lab::new();
    // A file system with room for nothing, there before the daemons have file systems of their own.
    let limited = lab.path("limited");
    std::fs::create_dir(&limited).unwrap();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4k,nr_inodes=8", "none"])
        .arg(&limited));
    std::fs::write(limited.join("filler"), vec![0; 4096]).unwrap();
    let mounted = Mounted(limited.clone());
    let daemons = pair(&lab, "");
    let nowhere = lab.path("nowhere/x.mrt");
    let said = lab.birdc_of("a", &format!("mrt dump table master4 to \"{}\"", nowhere.display()));
    assert!(said.contains("create") && said.contains("No such file"), "{said}");
    let said = lab.birdc_of("a", "mrt dump table nobody to \"/tmp/x\"");
    assert!(said.contains("there is no table 'nobody'"), "{said}");
    let said = lab.birdc_of(
        "a",
        &format!("mrt dump table master4 to \"{}/x.mrt\"", limited.display()),
    );
    let left = std::fs::read_dir(&limited).unwrap().count();
    drop(mounted);
    assert!(said.contains("No space left"), "{said}");
    assert_eq!(left, 1, "no temporary file is left");
    lab.client("a").established("Peer");
    drop(daemons);
}

#[test]
fn a_protocol_dumps_again_and_again() {
    let lab = Lab::new();
    let folder = lab.folder("dumps");
    let more = format!(
        "protocol mrt {{ table \"master*\"; filename \"{}/%N-%s.mrt\"; period 1; }}\n",
        folder.display()
    );
    let _daemons = pair(&lab, &more);
    let complete = eventually("two dumps of a table with all routes", || {
        let files = std::fs::read_dir(&folder).unwrap().flatten();
        let mut names: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
        names.retain(|name| name.starts_with("master4-") && bgpdump(&lab, &format!("dumps/{name}")).len() == 4);
        (names.len() >= 2).then_some(names)
    });
    assert!(complete.iter().all(|name| name.ends_with(".mrt")), "{complete:?}");
}
