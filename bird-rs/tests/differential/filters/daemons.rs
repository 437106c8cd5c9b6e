//! BIRD and bird-rs, each in a laboratory of its own with the same neighbour, and what their control sockets say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use super::routes::Routes;
use crate::lab::{Lab, Running, eventually_or, tool};

/// Who says nothing for so long has ended, or loops.
const SILENCE: Duration = Duration::from_secs(10);

/// Both programs read this.
const HEAD: &str = "router id 10.77.0.1;
log stderr { error, fatal, bug };
roa4 table r4;
roa6 table r6;
protocol device { }
protocol static ro4 { roa4 { table r4; };
  route 10.0.0.0/8 max 16 as 65010; route 10.0.0.0/9 max 24 as 1; route 10.0.1.0/24 max 32 as 2; route 10.200.0.0/13 max 24 as 3; }
protocol static ro6 { roa6 { table r6; }; route 2001:db8::/32 max 48 as 65010; route 2001:db8:1::/48 max 48 as 1; }
protocol bgp n { local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65001; direct; passive;
  ipv4 { import all; export none; }; ipv6 { import all; export none; }; }
";

/// A route as it is shown: its network and protocol, and what it has.
pub(super) type Shown = BTreeMap<String, Vec<String>>;

/// The neighbour's end of a session.
struct Neighbour(TcpStream);

impl Neighbour {
    fn connect(lab: &Lab) -> io::Result<Self> {
        let netns = format!("/run/netns/{}", lab.netns("b"));
        // Threads have network namespaces of their own; this one ends in the other.
        let thread = std::thread::spawn(move || -> io::Result<TcpStream> {
            setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::from(([10, 77, 0, 2], 0)).into())?;
            let speaker = SocketAddr::from(([10, 77, 0, 1], 179));
            socket.connect_timeout(&speaker.into(), Duration::from_secs(10))?;
            Ok(socket.into())
        });
        let stream = thread.join().unwrap()?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut neighbour = Neighbour(stream);
        // IPv4, IPv6, four-octet AS numbers; no hold time, so that nobody has to say that he lives.
        let capabilities = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xFD, 0xE9];
        let length = u8::try_from(capabilities.len()).unwrap();
        let mut open = vec![4, 0xFD, 0xE9, 0, 0, 10, 77, 0, 2, length + 2, 2, length];
        open.extend(capabilities);
        neighbour.say(1, &open)?;
        neighbour.hear(1)?;
        neighbour.say(4, &[])?;
        neighbour.hear(4)?;
        Ok(neighbour)
    }

    fn say(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut octets = vec![0xFF; 16];
        octets.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
        octets.push(kind);
        octets.extend(body);
        self.0.write_all(&octets)
    }

    fn hear(&mut self, kind: u8) -> io::Result<()> {
        let mut header = [0; 19];
        self.0.read_exact(&mut header)?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])) - 19];
        self.0.read_exact(&mut body)?;
        if header[18] == kind {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "message {} {body:?} and not {kind}",
                header[18]
            )))
        }
    }
}

/// One of the two programs.
pub(super) struct Daemon {
    name: &'static str,
    lab: Lab,
    running: Option<Running>,
    control: Option<BufReader<UnixStream>>,
    neighbour: Option<Neighbour>,
}

impl Daemon {
    pub(super) fn new(name: &'static str) -> Self {
        Daemon {
            name,
            lab: Lab::new(),
            running: None,
            control: None,
            neighbour: None,
        }
    }

    pub(super) fn lives(&self) -> bool {
        self.running.is_some()
    }

    /// Starts with, or changes to, these static routes and programs; an error is why they are refused.
    pub(super) fn load(&mut self, routes: &Routes, programs: &str) -> Result<(), String> {
        self.lab.write("a.conf", &format!("{HEAD}{}{programs}", routes.statics));
        if self.running.is_none() {
            self.start()?;
        }
        self.send("configure");
        let lines = self.reply().ok_or_else(|| format!("{} ended", self.name))?;
        let (code, text) = lines.last().unwrap();
        match code {
            3 | 4 => Ok(()),
            _ => Err(format!("{}: {code} {text}: {lines:?}", self.name)),
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let lab = &self.lab;
        // Of one that ended.
        let _ = std::fs::remove_file(lab.path("a.ctl"));
        let mut command = match self.name {
            "BIRD" => lab.command("a", tool("/usr/sbin/bird")),
            _ => lab.command("a", env!("CARGO_BIN_EXE_bird-rs")),
        };
        if self.name == "BIRD" {
            command.arg("-f");
        }
        command.arg("-c").arg(lab.path("a.conf"));
        command
            .arg("-s")
            .arg(lab.path("a.ctl"))
            .arg("-P")
            .arg(lab.path("a.pid"));
        let mut running = lab.spawn(command, "a");
        let socket = eventually_or(|| match UnixStream::connect(lab.path("a.ctl")) {
            Err(_) if running.0.try_wait().unwrap().is_some() => Ok(None),
            attempt => attempt.map(Some),
        });
        let socket = socket.ok_or_else(|| format!("{} does not start: {}", self.name, lab.log("a")))?;
        self.running = Some(running);
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let mut control = BufReader::new(socket);
        let mut greeting = String::new();
        control.read_line(&mut greeting).unwrap();
        assert!(greeting.starts_with("0001 "), "{greeting}");
        self.control = Some(control);
        self.neighbour = Some(eventually_or(|| Neighbour::connect(lab)));
        Ok(())
    }

    /// Tells the neighbour's routes.
    pub(super) fn announce(&mut self, routes: &Routes) {
        let neighbour = self.neighbour.as_mut().unwrap();
        for update in &routes.updates {
            neighbour.say(2, update).unwrap();
        }
    }

    pub(super) fn send(&mut self, command: &str) {
        // Whether it still lives is known from its answer.
        if let Some(control) = &mut self.control {
            let _ = control.get_mut().write_all(format!("{command}\n").as_bytes());
        }
    }

    /// The lines of a reply with their codes; none when the program has ended.
    pub(super) fn reply(&mut self) -> Option<Vec<(u16, String)>> {
        let (mut lines, mut code) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            let read = self.control.as_mut()?.read_line(&mut line);
            if !matches!(read, Ok(1..)) {
                (self.running, self.control, self.neighbour) = (None, None, None);
                return None;
            }
            let line = line.trim_end_matches('\n');
            if let Some(text) = line.strip_prefix(' ') {
                lines.push((code, text.to_owned()));
                continue;
            }
            code = line
                .get(..4)
                .and_then(|code| code.parse().ok())
                .unwrap_or_else(|| panic!("{}: {line}", self.name));
            lines.push((code, line.get(5..).unwrap_or_default().to_owned()));
            if line.as_bytes().get(4) == Some(&b' ') {
                return Some(lines);
            }
        }
    }

    /// The routes of a `show route .. all`; none when the program has ended.
    pub(super) fn shown(&mut self) -> Option<Shown> {
        let mut all = Shown::new();
        let mut current = String::new();
        for (code, line) in self.reply()? {
            match code {
                1007 if line.starts_with('\t') => all.get_mut(&current)?.push(line.trim().to_owned()),
                1007 if line.contains('[') => {
                    let (key, rest) = head(&line);
                    current = key;
                    all.insert(current.clone(), vec![rest]);
                }
                1008 | 1012 => all.get_mut(&current)?.extend(attribute(line.trim())),
                _ => {}
            }
        }
        all.values_mut().for_each(|lines| lines[1..].sort());
        Some(all)
    }
}

/// `NET DESTINATION [PROTOCOL TIME from X] * (100) [AS1i]`: the net with the protocol, and the rest without the time.
fn head(line: &str) -> (String, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (net, destination, protocol) = (words[0], words[1], words[2].trim_start_matches('['));
    let rest: Vec<&str> = words[3..].iter().skip(1).copied().collect();
    (format!("{net} {protocol}"), format!("{destination} {}", rest.join(" ")))
}

/// A line of `show route all`, or none where the two differ and the reference says so: an empty list, the default origin
/// of a route that is not BGP's. The order of a list means nothing.
fn attribute(line: &str) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    let value = value.trim();
    let is_list = name.contains("community") || name == "BGP.cluster_list";
    if (is_list || name == "BGP.as_path") && value.is_empty() {
        return None;
    }
    if !is_list {
        return Some(format!("{name}: {value}"));
    }
    let spaced = value.replace(", ", ",");
    let mut members: Vec<&str> = spaced.split(' ').collect();
    members.sort_unstable();
    Some(format!("{name}: {}", members.join(" ")))
}

#[test]
fn what_means_nothing_is_not_compared() {
    let (net, rest) = head("10.0.0.0/8           unicast [n 12:00:00.000 from 10.77.0.2] * (100) [AS5i]");
    assert_eq!(
        (&*net, &*rest),
        ("10.0.0.0/8 n", "unicast from 10.77.0.2] * (100) [AS5i]")
    );
    assert_eq!(
        attribute("BGP.community: (3,4) (1,2)").unwrap(),
        "BGP.community: (1,2) (3,4)"
    );
    assert_eq!(
        attribute("BGP.large_community: (3, 4, 5) (1, 2, 3)").unwrap(),
        "BGP.large_community: (1,2,3) (3,4,5)"
    );
    assert_eq!(attribute("BGP.ext_community: "), None);
}
