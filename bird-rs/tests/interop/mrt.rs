//! Dumps of our tables, read by bgpdump.

use std::process::Command;

use crate::foreign::{OUR_AS, THEIR_AS, ours};
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
fn a_dump_on_command_is_read_by_bgpdump() {
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
