//! A case: a file with a configuration and the neighbours' parts. `cases/README.md` has the words.

use std::net::IpAddr;
use std::path::Path;

/// What is compared, and the configuration before the first step.
#[derive(Debug)]
pub(crate) struct Case {
    /// `ip` commands for the router's namespace, before it starts.
    pub(crate) router: Vec<String>,
    pub(crate) config: String,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) steps: Vec<Step>,
    /// Differences that the documentation names: a quotation of it, and the lines.
    pub(crate) differences: Vec<(String, Vec<String>)>,
}

#[derive(Debug)]
pub(crate) enum Step {
    Neighbour(String, Vec<Action>),
    Configure(String),
    Birdc(Vec<String>),
    /// `ip` commands.
    Router(Vec<String>),
}

/// How a neighbour comes by its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connects {
    /// At once, and until there is a session.
    Yes,
    /// Once; what becomes of it is recorded.
    Tries,
    /// It waits for the router.
    Listens,
    /// When a step says so.
    Later,
}

#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) asn: u32,
    pub(crate) router: IpAddr,
    pub(crate) id: std::net::Ipv4Addr,
    pub(crate) hold: u16,
    pub(crate) connects: Connects,
    pub(crate) port: u16,
    pub(crate) password: Option<String>,
    pub(crate) ttl: Option<u32>,
    pub(crate) link_local: Option<IpAddr>,
    /// Capabilities as in an OPEN.
    pub(crate) capabilities: Vec<(u8, Vec<u8>)>,
    pub(crate) actions: Vec<Action>,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Announce(Announcement),
    Withdraw(Vec<Prefix>, u32),
    EndOfRib(Family),
    Refresh(Family),
    Notify(Vec<u8>),
    /// Whole UPDATE bodies in hexadecimal.
    Raw(Vec<u8>),
    Close,
    Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// AFI and SAFI.
    pub(crate) fn codes(self) -> [u8; 3] {
        [0, if self == Family::Ipv4 { 1 } else { 2 }, 1]
    }

    fn parse(word: &str) -> Self {
        match word {
            "ipv4" => Family::Ipv4,
            "ipv6" => Family::Ipv6,
            _ => panic!("{word:?} is no family"),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Prefix {
    fn parse(word: &str) -> Self {
        let (address, length) = word.split_once('/').unwrap_or_else(|| panic!("{word:?} is no prefix"));
        Prefix {
            address: number(address),
            length: number(length),
        }
    }

    pub(crate) fn family(&self) -> Family {
        if self.address.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    }
}

/// Routes with the same attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announcement {
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) id: u32,
    pub(crate) origin: u8,
    /// Segments: type and members.
    pub(crate) path: Option<Vec<(u8, Vec<u32>)>>,
    pub(crate) next_hops: Vec<IpAddr>,
    pub(crate) local_pref: Option<u32>,
    /// Codes of attributes left out.
    pub(crate) without: Vec<u8>,
    /// IPv4 routes in MP_REACH_NLRI.
    pub(crate) multiprotocol: bool,
    /// Flags, code, value.
    pub(crate) others: Vec<(u8, u8, Vec<u8>)>,
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("{word:?} cannot be read"))
}

pub(crate) fn octets(hexadecimal: &str) -> Vec<u8> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    let octet = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    pairs
        .map(|pair| octet(pair).unwrap_or_else(|_| panic!("{hexadecimal:?} is no hexadecimal")))
        .collect()
}

/// Numbers between separators, most significant octet first.
fn packed(word: &str, separators: &[char]) -> Vec<u8> {
    word.split(separators)
        .flat_map(|part| number::<u32>(part).to_be_bytes())
        .collect()
}

impl Announcement {
    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Self {
        let mut route = Announcement::default();
        let mut key = "";
        while let Some(word) = words.next() {
            if word.contains('/') {
                route.prefixes.push(Prefix::parse(word));
                continue;
            }
            match word {
                "path" => route.path = Some(Vec::new()),
                "atomic" => route.others.push((0x40, 6, Vec::new())),
                "mp" => route.multiprotocol = true,
                "id" | "origin" | "nexthop" | "med" | "pref" | "community" | "ext" | "large" | "originator"
                | "clusters" | "aggregator" | "otc" | "attr" | "without" | "times" => {
                    let value = words.next().unwrap_or_else(|| panic!("{word:?} needs a value"));
                    route.set(word, value, &mut words);
                }
                _ if key == "path" => {
                    route.hop(word);
                    continue;
                }
                _ => panic!("{word:?} means nothing here"),
            }
            key = word;
        }
        assert!(!route.prefixes.is_empty(), "nothing is announced");
        route
    }

    /// A member of a path: `65001`, `{1,2}` a set, `(1,2)` a confederation's sequence.
    fn hop(&mut self, word: &str) {
        let path = self.path.get_or_insert_default();
        let members = || word[1..word.len() - 1].split(',').map(number).collect();
        match word.as_bytes()[0] {
            b'{' => path.push((1, members())),
            b'(' => path.push((3, members())),
            _ => match path.last_mut() {
                Some((2, members)) if members.len() < 255 => members.push(number(word)),
                _ => path.push((2, vec![number(word)])),
            },
        }
    }

    fn set<'a>(&mut self, key: &str, value: &'a str, words: &mut impl Iterator<Item = &'a str>) {
        let list = || value.split(',');
        let (flags, code, octets) = match key {
            "id" => return self.id = number(value),
            "pref" => return self.local_pref = Some(number(value)),
            "nexthop" => return self.next_hops = list().map(number).collect(),
            "without" => return self.without = list().map(number).collect(),
            "times" => {
                // `times 300 65001`: a long path.
                let member = words.next().expect("times COUNT AS");
                return (0..number(value)).for_each(|_: u32| self.hop(member));
            }
            "origin" => {
                let known = ["igp", "egp", "incomplete"].iter().position(|name| *name == value);
                return self.origin = known.map_or_else(|| number(value), |at| u8::try_from(at).unwrap());
            }
            "med" => (0x80, 4, packed(value, &[])),
            "otc" => (0xc0, 35, packed(value, &[])),
            "originator" => (0x80, 9, number::<std::net::Ipv4Addr>(value).octets().to_vec()),
            "clusters" => (
                0x80,
                10,
                list()
                    .flat_map(|id| number::<std::net::Ipv4Addr>(id).octets())
                    .collect(),
            ),
            "community" => {
                let pairs = list().flat_map(|pair| pair.split(':'));
                (
                    0xc0,
                    8,
                    pairs.flat_map(|half| number::<u16>(half).to_be_bytes()).collect(),
                )
            }
            "large" => (0xc0, 32, packed(value, &[',', ':'])),
            "ext" => (0xc0, 16, list().flat_map(octets).collect()),
            "aggregator" => {
                let (asn, id) = value.split_once(':').expect("AS:ID");
                let id = number::<std::net::Ipv4Addr>(id).octets();
                (0xc0, 7, [number::<u32>(asn).to_be_bytes(), id].concat())
            }
            _ => {
                let code = words.next().map(number).expect("attr FLAGS CODE VALUE");
                (
                    octets(value)[0],
                    code,
                    words.next().map(octets).expect("attr FLAGS CODE VALUE"),
                )
            }
        };
        self.others.push((flags, code, octets));
    }
}

impl Action {
    fn parse(line: &str) -> Self {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.split_whitespace();
        match verb {
            "announce" => Action::Announce(Announcement::parse(words)),
            "withdraw" => {
                let prefixes = words
                    .clone()
                    .filter(|word| word.contains('/'))
                    .map(Prefix::parse)
                    .collect();
                let id = words.skip_while(|word| *word != "id").nth(1).map_or(0, number);
                Action::Withdraw(prefixes, id)
            }
            "eor" => Action::EndOfRib(Family::parse(rest)),
            "refresh" => Action::Refresh(Family::parse(rest)),
            "notify" => Action::Notify(words.map(number).collect()),
            "raw" => Action::Raw(words.by_ref().flat_map(octets).collect()),
            "close" => Action::Close,
            "connect" => Action::Connect,
            _ => panic!("{line:?} means nothing to a neighbour"),
        }
    }
}

impl Neighbour {
    /// `NAME ADDRESS as AS OPTIONS`.
    fn parse(heading: &str, lines: &[&str]) -> Self {
        let mut words = heading.split_whitespace();
        let name = words.next().expect("a name").to_owned();
        let address: IpAddr = number(words.next().expect("an address"));
        let (router, last) = match address {
            IpAddr::V4(v4) => ("10.77.0.1", u32::from(v4) & 0xff),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => ("fe80::77:1", u32::from(v6.segments()[7])),
            IpAddr::V6(v6) => ("fd77::1", u32::from(v6.segments()[7])),
        };
        let mut neighbour = Neighbour {
            name,
            address,
            asn: 0,
            router: number(router),
            id: std::net::Ipv4Addr::from(0x0a4d_0000 + last),
            hold: 240,
            connects: Connects::Yes,
            port: 179,
            password: None,
            ttl: None,
            link_local: None,
            capabilities: Vec::new(),
            actions: lines.iter().map(|line| Action::parse(line)).collect(),
        };
        let (mut families, mut options) = (vec![if address.is_ipv4() { "ipv4" } else { "ipv6" }], Vec::new());
        let mut without: Vec<&str> = Vec::new();
        while let Some(word) = words.next() {
            match word {
                "tries" => neighbour.connects = Connects::Tries,
                "listens" => neighbour.connects = Connects::Listens,
                "later" => neighbour.connects = Connects::Later,
                "as" | "to" | "id" | "hold" | "port" | "password" | "ttl" | "link-local" | "families" | "with"
                | "without" => {
                    let value = words.next().unwrap_or_else(|| panic!("{word:?} needs a value"));
                    match word {
                        "as" => neighbour.asn = number(value),
                        "to" => neighbour.router = number(value),
                        "id" => neighbour.id = number(value),
                        "hold" => neighbour.hold = number(value),
                        "port" => neighbour.port = number(value),
                        "password" => neighbour.password = Some(value.to_owned()),
                        "ttl" => neighbour.ttl = Some(number(value)),
                        "link-local" => neighbour.link_local = Some(number(value)),
                        "families" => families = value.split(',').collect(),
                        "with" => options.extend(value.split(',')),
                        _ => without = value.split(',').collect(),
                    }
                }
                _ => panic!("{word:?} is no option of a neighbour"),
            }
        }
        if families == ["none"] {
            families.clear();
        }
        neighbour.capabilities = capabilities(neighbour.asn, &families, &options, &without);
        neighbour
    }
}

/// Four-octet AS numbers and route refresh, and what the script says.
fn capabilities(asn: u32, families: &[&str], options: &[&str], without: &[&str]) -> Vec<(u8, Vec<u8>)> {
    let codes: Vec<[u8; 3]> = families.iter().map(|family| Family::parse(family).codes()).collect();
    let each = |last: &[u8]| -> Vec<u8> { codes.iter().flat_map(|codes| [&codes[..], last].concat()).collect() };
    let mut all: Vec<(u8, Vec<u8>)> = Vec::new();
    for [high, low, safi] in codes.iter().copied() {
        all.push((1, vec![high, low, 0, safi]));
    }
    if !without.contains(&"as4") {
        all.push((65, asn.to_be_bytes().to_vec()));
    }
    if !without.contains(&"refresh") {
        all.push((2, Vec::new()));
    }
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        all.push(match name {
            "add-path" => (69, each(&[3])),
            "add-path-rx" => (69, each(&[1])),
            "add-path-tx" => (69, each(&[2])),
            "enhanced-refresh" => (70, Vec::new()),
            "extended-messages" => (6, Vec::new()),
            "extended-next-hop" => (5, vec![0, 1, 0, 1, 0, 2]),
            "role" => (9, vec![number(value)]),
            // The time in seconds; forwarding is preserved.
            "gr" => (64, [&number::<u16>(value).to_be_bytes()[..], &each(&[0x80])].concat()),
            "llgr" => (
                71,
                each(&[&[0x80][..], &number::<u32>(value).to_be_bytes()[1..]].concat()),
            ),
            _ => panic!("{option:?} is no capability"),
        });
    }
    all
}

/// What a section's lines say: no comments, no empty lines.
fn plain<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let lines = lines.iter().map(|line| line.trim());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

impl Case {
    /// # Panics
    /// When the file cannot be read.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut case = Case {
            router: Vec::new(),
            config: String::new(),
            neighbours: Vec::new(),
            steps: Vec::new(),
            differences: Vec::new(),
        };
        let lines: Vec<&str> = text.lines().collect();
        let starts: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("== ")).collect();
        for (at, start) in starts.iter().enumerate() {
            let end = starts.get(at + 1).copied().unwrap_or(lines.len());
            case.section(lines[*start], &lines[start + 1..end]);
        }
        case
    }

    fn section(&mut self, heading: &str, lines: &[&str]) {
        let words: Vec<&str> = heading[3..].splitn(3, ' ').collect();
        let plain = plain(lines);
        let owned = || plain.iter().map(|line| (*line).to_owned()).collect();
        let text = || lines.iter().map(|line| format!("{line}\n")).collect();
        match words[..] {
            ["router"] => self.router = owned(),
            ["config"] => self.config = text(),
            ["golden", name] => self.config = golden(name),
            ["neighbour", name, options] => {
                self.neighbours
                    .push(Neighbour::parse(&format!("{name} {options}"), &plain));
            }
            ["then", "config"] => self.steps.push(Step::Configure(text())),
            ["then", "golden", name] => self.steps.push(Step::Configure(golden(name))),
            ["then", "birdc"] => self.steps.push(Step::Birdc(owned())),
            ["then", "router"] => self.steps.push(Step::Router(owned())),
            ["then", name] => {
                assert!(
                    self.neighbours.iter().any(|known| known.name == name),
                    "{heading:?}: nobody has this name"
                );
                let actions = plain.iter().map(|line| Action::parse(line)).collect();
                self.steps.push(Step::Neighbour(name.to_owned(), actions));
            }
            ["differs", ..] => self
                .differences
                .push((heading["== differs ".len()..].to_owned(), owned())),
            _ => panic!("{heading:?} is no section"),
        }
    }
}

/// What confd renders for a node (`tests/golden/confd`).
fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/confd");
    let path = folder.join(name).join("expect.conf");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // BIRD resolves next hops by its own table, we by the kernel's.
    text + "protocol direct { ipv4; ipv6; }\n"
}
