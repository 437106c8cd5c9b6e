//! `log`: what goes where, beside stock BIRD with the same statements.

use std::path::Path;

use crate::lab::{Lab, eventually};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A router whose one neighbour is not there, with these statements.
fn config(statements: &str) -> String {
    format!(
        "{statements}
router id 10.77.0.1;
protocol device {{ }}
protocol static own {{ ipv4; route 10.1.0.0/24 blackhole; }}
protocol bgp peer {{ local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65002; connect delay time 1; connect retry time 1;
  ipv4 {{ import all; export all; }}; }}
"
    )
}

/// A line's time and class.
fn head(line: &str) -> (String, String) {
    let (time, rest) = line.split_once(" <").unwrap_or_else(|| panic!("{line}"));
    let (class, _) = rest.split_once("> ").unwrap_or_else(|| panic!("{line}"));
    (time.to_owned(), class.to_owned())
}

#[test]
fn files_get_their_classes_and_keep_their_limits() {
    let lab = Lab::new();
    let (info, trace, old) = (lab.path("info"), lab.path("trace"), lab.path("trace.old"));
    let statements = format!(
        "log \"{}\" {{ info, warning, error }};
log \"{}\" 600 \"{}\" {{ trace }};
log stderr {{ error, fatal, bug }};",
        info.display(),
        trace.display(),
        old.display()
    );
    let _daemon = lab.bird_rs("a", &config(&statements));
    eventually("the file of trace messages is put aside", || old.exists().then_some(()));
    let lines = read(&info);
    assert!(
        lines.contains("<INFO> bird-rs runs config=") && !lines.contains("<TRACE>"),
        "{lines}"
    );
    for file in [&trace, &old] {
        let (lines, size) = (read(file), std::fs::metadata(file).map_or(0, |data| data.len()));
        assert!(size <= 600, "{size}: {lines}");
        assert!(lines.lines().all(|line| head(line).1 == "TRACE"), "{lines}");
    }
    assert!(
        read(&old).contains("> peer: session state changed from="),
        "{}",
        read(&old)
    );
    assert_eq!(lab.log("a"), "", "nothing of this is for standard error");

    // Other targets, at once; and the time as it is wanted.
    let other = lab.path("other");
    let statements = format!(
        "timeformat log \"at %Y\"; log stderr all; log \"{}\" all;",
        other.display()
    );
    lab.write("a.conf", &config(&statements));
    assert!(lab.birdc_of("a", "configure").contains("Reconfigured"));
    eventually("the other file is written", || {
        read(&other).contains("configuration applied").then_some(())
    });
    let line = read(&other).lines().next().map(head);
    let year = line.map(|(time, _)| time).unwrap_or_default();
    assert!(year.starts_with("at 2") && year.len() == 7, "{year}");
    eventually("standard error has it too", || {
        lab.log("a").contains("configuration applied").then_some(())
    });

    // What cannot be opened is no configuration.
    lab.write("a.conf", &config("log \"/nowhere/at/all\" all;"));
    let refused = lab.birdc_of("a", "configure");
    assert!(
        refused.contains("/nowhere/at/all") && refused.contains("cannot be opened"),
        "{refused}"
    );
}

#[test]
fn lines_look_like_birds() {
    let lab = Lab::new();
    let (ours, birds) = (lab.path("ours"), lab.path("birds"));
    let to = |path: &Path| config(&format!("log \"{}\" all;", path.display()));
    let _daemon = lab.bird_rs("a", &to(&ours));
    let _bird = lab.bird("b", &to(&birds).replace("10.77.0.1 ", "10.77.0.2 "), false);
    for path in [&ours, &birds] {
        let first = eventually("there is a line", || {
            read(path)
                .lines()
                .find(|line| line.contains("<INFO>"))
                .map(str::to_owned)
        });
        let (time, class) = head(&first);
        assert_eq!(class, "INFO");
        // 2026-01-02 03:04:05.678
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00.000", "{first}");
    }
}

#[test]
fn work_that_takes_long_is_logged_as_the_watchdog_says() {
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", &config("watchdog warning 1 us; watchdog timeout 30 s;"));
    eventually("the engine was busy", || {
        lab.log("a").contains("the engine was busy for long").then_some(())
    });
}

#[test]
fn debug_tells_what_the_level_leaves_out() {
    let lab = Lab::new();
    let (file, told) = (lab.path("told"), "peer: session state changed");
    let statements = |debug: &str| format!("{debug} log \"{}\" {{ trace }};", file.display());
    // The harness wants to see more than an operator does.
    let quiet = |text: &str| {
        let mut command = lab.command("a", env!("CARGO_BIN_EXE_bird-rs"));
        command
            .arg("-c")
            .arg(lab.write("a.conf", text))
            .arg("-s")
            .arg(lab.path("a.ctl"));
        command.args(["--log-level", "info"]);
        command
    };
    let daemon = lab.spawn(quiet(&config(&statements(""))), "a");
    eventually("the neighbour was tried", || {
        lab.birdc_of("a", "show protocols all peer")
            .contains("Last error")
            .then_some(())
    });
    assert_eq!(read(&file), "");
    lab.birdc_of("a", "debug peer all");
    eventually("changes of state are told", || read(&file).contains(told).then_some(()));
    lab.birdc_of("a", "debug peer off");
    drop(daemon);
    std::fs::remove_file(&file).unwrap();
    let _daemon = lab.spawn(quiet(&config(&statements("debug protocols all;"))), "a");
    eventually("the configuration asks for them", || {
        read(&file).contains(told).then_some(())
    });
    assert!(read(&file).lines().all(|line| head(line).1 == "TRACE"));
    // A configuration has the last word.
    let other = lab.path("other");
    lab.birdc_of("a", "debug peer all");
    lab.write("a.conf", &config(&format!("log \"{}\" {{ trace }};", other.display())));
    assert!(lab.birdc_of("a", "configure").contains("Reconfigured"));
    lab.birdc_of("a", "restart peer");
    eventually("the neighbour was tried again", || {
        lab.birdc_of("a", "show protocols all peer")
            .contains("Last error")
            .then_some(())
    });
    assert_eq!(read(&other), "");
}
