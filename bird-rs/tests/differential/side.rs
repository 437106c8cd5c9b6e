//! One of the two programs with its neighbours, in a laboratory of its own.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, PATIENCE, Running, eventually, tool};
use crate::listing;
use crate::neighbour::Speaker;
use crate::script::{Case, Connects, Step};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Bird,
    BirdRs,
}

/// Dropped in this order: neighbours say nothing more when the router ends.
pub(crate) struct Side {
    speakers: Vec<Speaker>,
    daemon: Running,
    program: Program,
    lab: Lab,
}

/// What is compared: lines of each neighbour by name, and of the router itself.
pub(crate) type Snapshot = BTreeMap<String, Vec<String>>;

/// Runs `ip` commands in a namespace, all in one process.
fn ip(netns: &str, commands: &[String]) {
    use std::io::Write;
    let mut child = Command::new("ip")
        .args(["-n", netns, "-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all((commands.join("\n") + "\n").as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "ip failed: {commands:?}");
}

/// The wire with known link-local addresses, where the kernel would make some up.
fn wire(side: u8) -> Vec<String> {
    let lines = [
        "link set eth0 down".to_owned(),
        "link set eth0 addrgenmode none".to_owned(),
        "link set eth0 up".to_owned(),
        format!("address replace 10.77.0.{side}/24 dev eth0"),
        format!("address replace fd77::{side}/64 dev eth0 nodad"),
        format!("address add fe80::77:{side}/64 dev eth0 nodad"),
    ];
    lines.to_vec()
}

/// BIRD knows nothing of `protocol felix`, which is ours.
fn without_felix(config: &str) -> String {
    let Some((before, rest)) = config.split_once("protocol felix {") else {
        return config.to_owned();
    };
    let (_, after) = rest.split_once("\n}\n").expect("protocol felix ends with a line");
    format!("{before}{after}")
}

impl Side {
    /// The program with its first configuration, and the neighbours' addresses.
    pub(crate) fn new(program: Program, case: &Case) -> Self {
        let lab = Lab::new();
        let mut commands = wire(1);
        commands.extend(case.router.iter().cloned());
        ip(&lab.netns("a"), &commands);
        let mut commands = wire(2);
        // Where the router has addresses beyond the wire.
        commands.push("route replace 10.99.0.0/24 via 10.77.0.1".to_owned());
        for neighbour in &case.neighbours {
            let address = neighbour.address;
            let length = if address.is_ipv4() { 24 } else { 64 };
            commands.push(format!("address replace {address}/{length} dev eth0"));
            if let Some(link_local) = neighbour.link_local {
                commands.push(format!("address replace {link_local}/64 dev eth0"));
            }
        }
        // Duplicates are looked for by nobody, so nobody waits for that.
        let commands: Vec<String> = commands
            .into_iter()
            .map(|command| {
                if command.contains("::") && !command.ends_with("nodad") {
                    command + " nodad"
                } else {
                    command
                }
            })
            .collect();
        ip(&lab.netns("b"), &commands);
        let daemon = start(program, &lab, &case.config);
        let speaker = |neighbour: &crate::script::Neighbour| Speaker::new(neighbour.clone(), lab.netns("b"));
        let mut side = Side {
            speakers: case.neighbours.iter().map(speaker).collect(),
            daemon,
            program,
            lab,
        };
        eventually("the control socket answers", || {
            side.is_well();
            side.birdc("show status").contains("up and running").then_some(())
        });
        side.settle();
        side
    }

    /// Sessions first, then what each has to say, one after the other: the order of arrival may matter.
    pub(crate) fn begin(&mut self, case: &Case) {
        for (at, neighbour) in case.neighbours.iter().enumerate() {
            if neighbour.connects != Connects::Later {
                self.speakers[at].start();
            }
        }
        self.settle();
        for (at, neighbour) in case
            .neighbours
            .iter()
            .enumerate()
            .filter(|(_, one)| !one.actions.is_empty())
        {
            neighbour
                .actions
                .iter()
                .for_each(|action| self.speakers[at].act(action));
            self.settle();
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Neighbour(name, actions) => {
                let speaker = self.speakers.iter_mut().find(|speaker| speaker.name() == name).unwrap();
                actions.iter().for_each(|action| speaker.act(action));
            }
            Step::Configure(config) => {
                write(self.program, &self.lab, config);
                let said = self.birdc("configure");
                assert!(said.contains("Reconfigur"), "{:?}: {said}", self.program);
            }
            Step::Birdc(commands) => commands.iter().for_each(|command| drop(self.birdc(command))),
            Step::Router(commands) => ip(&self.lab.netns("a"), commands),
        }
        self.settle();
    }

    fn birdc(&self, what: &str) -> String {
        self.lab.birdc_of("a", what)
    }

    /// Waits until nothing is on its way: no segment goes over the wire, and the process sleeps all the time. What the
    /// process does after a while by its own clock is not waited for.
    pub(crate) fn settle(&self) {
        let start = Instant::now();
        let mut last = self.activity();
        let mut quiet = 0;
        while quiet < 4 {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.activity();
            quiet = if now.is_some() && now == last { quiet + 1 } else { 0 };
            last = now;
            assert!(start.elapsed() < PATIENCE, "{:?} never comes to rest", self.program);
        }
    }

    /// How often its threads ran, and what TCP has counted; none while a thread runs.
    fn activity(&self) -> Option<(u64, String)> {
        // `ip netns exec` becomes the program.
        let process = format!("/proc/{}", self.daemon.0.id());
        let mut ran = 0;
        for thread in std::fs::read_dir(format!("{process}/task")).ok()?.flatten() {
            let read = |name: &str| std::fs::read_to_string(thread.path().join(name)).ok();
            // After the name in parentheses comes the state.
            let stat = read("stat")?;
            if stat.rsplit(')').next()?.trim_start().starts_with('R') {
                return None;
            }
            ran += read("schedstat")?.split_whitespace().nth(2)?.parse::<u64>().ok()?;
        }
        let counters = std::fs::read_to_string(format!("{process}/net/snmp")).ok()?;
        let tcp = counters.lines().filter(|line| line.starts_with("Tcp:"));
        Some((ran, tcp.collect()))
    }

    /// How everything is now.
    pub(crate) fn snapshot(&self, case: &Case) -> Snapshot {
        let mut snapshot: Snapshot = self
            .speakers
            .iter()
            .map(|speaker| (speaker.name().to_owned(), speaker.lines()))
            .collect();
        snapshot.insert(
            "protocols".to_owned(),
            listing::protocols(&self.birdc("show protocols")),
        );
        snapshot.insert(
            "routes".to_owned(),
            listing::routes(&self.birdc("show route table all all")),
        );
        if case.config.contains("keep filtered") {
            let filtered = self.birdc("show route filtered table all all");
            snapshot.insert("filtered".to_owned(), listing::routes(&filtered));
        }
        snapshot
    }

    /// The program still runs, and says of no error of its own.
    pub(crate) fn is_well(&mut self) {
        let log = self.lab.log("a");
        assert!(
            self.daemon.0.try_wait().unwrap().is_none(),
            "{:?} ended: {log}",
            self.program
        );
        assert!(!log.contains("internal error") && !log.contains("panicked"), "{log}");
    }
}

fn write(program: Program, lab: &Lab, config: &str) -> std::path::PathBuf {
    match program {
        Program::Bird => lab.write("a.conf", &without_felix(config)),
        Program::BirdRs => lab.write("a.conf", config),
    }
}

fn start(program: Program, lab: &Lab, config: &str) -> Running {
    let file = write(program, lab, config);
    if program == Program::BirdRs {
        return lab.bird_rs("a", config);
    }
    let mut command = lab.command("a", tool("/usr/sbin/bird"));
    command
        .arg("-f")
        .arg("-c")
        .arg(file)
        .arg("-s")
        .arg(lab.path("a.ctl"))
        .arg("-P")
        .arg(lab.path("a.pid"));
    lab.spawn(command, "a")
}
