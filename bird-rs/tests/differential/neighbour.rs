//! A scripted BGP speaker: a session, a thread that notes what comes, and no opinion.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use crate::framed::Framed;
use crate::lab::PATIENCE;
use crate::octets::{KEEPALIVE, NOTIFICATION, OPEN, Session, message, open};
use crate::received::{self, Received};
use crate::script::{Action, Connects, Family, Neighbour};

/// Runs in a network namespace: threads have their own.
fn inside<T: Send + 'static>(netns: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let path = format!("/run/netns/{netns}");
    let thread = std::thread::spawn(move || {
        setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap()
}

pub(crate) struct Speaker {
    script: Neighbour,
    netns: String,
    received: Arc<Mutex<Received>>,
    connection: Option<(TcpStream, Session)>,
}

/// With the interface where the address needs one. There is only one wire, and it has this number on both sides.
fn socket_address(address: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, interface).into(),
        _ => SocketAddr::new(address, port),
    }
}

/// A connected socket.
fn connection(script: &Neighbour) -> io::Result<TcpStream> {
    let interface = nix::net::if_::if_nametoindex("eth0")?;
    let at = |address, port| socket_address(address, port, interface);
    let domain = Domain::for_address(at(script.address, 0));
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(password) = &script.password {
        let router = tortie_net::Prefix::host(script.router);
        tortie_netlink::sockopt::set_md5_key(&socket, router, password.as_bytes())?;
    }
    if let Some(ttl) = script.ttl {
        match script.address {
            IpAddr::V4(_) => socket.set_ttl_v4(ttl)?,
            IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl)?,
        }
    }
    if script.connects == Connects::Listens {
        socket.set_reuse_address(true)?;
        socket.bind(&at(script.address, script.port).into())?;
        socket.listen(4)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let (accepted, from) = socket.accept()?;
        let from = from.as_socket().unwrap().ip();
        assert_eq!(from, script.router, "the router connects from an address of its choice");
        return Ok(accepted.into());
    }
    socket.bind(&at(script.address, 0).into())?;
    socket.connect_timeout(&at(script.router, script.port).into(), Duration::from_secs(2))?;
    Ok(socket.into())
}

/// What both can, from both OPENs.
fn session(script: &Neighbour, open: &[u8]) -> Session {
    let theirs = received::capabilities(open);
    let four_octets = |all: &[(u8, Vec<u8>)]| all.iter().find(|one| one.0 == 65).map(|one| one.1.clone());
    let remote = match four_octets(&theirs) {
        Some(asn) => u32::from_be_bytes(asn.try_into().unwrap()),
        None => u32::from(u16::from_be_bytes([open[1], open[2]])),
    };
    let add_path = |all: &[(u8, Vec<u8>)], family: Family, bit: u8| {
        let all = all.iter().filter(|one| one.0 == 69);
        let mut entries = all.flat_map(|one| one.1.chunks(4));
        entries.any(|entry| entry[..3] == family.codes() && entry[3] & bit != 0)
    };
    let ids = |sender: &[(u8, Vec<u8>)], receiver: &[(u8, Vec<u8>)]| {
        let both = |family: &Family| add_path(sender, *family, 2) && add_path(receiver, *family, 1);
        [Family::Ipv4, Family::Ipv6].into_iter().filter(both).collect()
    };
    let ours = &script.capabilities;
    Session {
        asn: script.asn,
        internal: remote == script.asn,
        four_octets: four_octets(&theirs).is_some() && four_octets(ours).is_some(),
        sends_ids: ids(ours, &theirs),
        receives_ids: ids(&theirs, ours),
        address: match script.address {
            // Global next hops of IPv6 routes over IPv4 and over link-local addresses.
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Ipv6Addr::UNSPECIFIED.into(),
            address => address,
        },
        link_local: script.link_local,
    }
}

impl Speaker {
    pub(crate) fn new(script: Neighbour, netns: String) -> Self {
        let received = Received::new("never up", Vec::new());
        Speaker {
            script,
            netns,
            received: Arc::new(Mutex::new(received)),
            connection: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.script.name
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let hears_of_ends = self.script.capabilities.iter().any(|(code, _)| *code == 64);
        self.received.lock().unwrap().lines(hears_of_ends)
    }

    /// Comes up as the script says. Whoever tries does so until there is any answer.
    pub(crate) fn start(&mut self) {
        let start = Instant::now();
        loop {
            match (self.attempt(), self.script.connects) {
                (Ok(()), _) => return,
                (Err(error), Connects::Tries) if error.kind() != io::ErrorKind::ConnectionRefused => {
                    self.received.lock().unwrap().state = format!("refused: {error}");
                    return;
                }
                (Err(error), _) => {
                    let name = &self.script.name;
                    assert!(start.elapsed() < PATIENCE, "{name} has no session: {error}");
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn attempt(&mut self) -> io::Result<()> {
        let script = self.script.clone();
        let stream = inside(&self.netns, move || connection(&script))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        let mut writer = stream.try_clone()?;
        let mut messages = Framed::new(stream);
        let capability = |(code, value): &(u8, Vec<u8>)| {
            let length = u8::try_from(value.len()).unwrap();
            [&[*code, length][..], value].concat()
        };
        let capabilities: Vec<u8> = self.script.capabilities.iter().flat_map(capability).collect();
        writer.write_all(&open(self.script.asn, self.script.hold, self.script.id, &capabilities))?;
        let body = expect(&mut messages, OPEN)?;
        writer.write_all(&message(KEEPALIVE, &[]))?;
        expect(&mut messages, KEEPALIVE)?;
        let session = session(&self.script, &body);
        messages.stream.set_read_timeout(None)?;
        *self.received.lock().unwrap() = Received::new("up", received::open(&body));
        let (received, noted) = (self.received.clone(), session.clone());
        let answer = writer.try_clone()?;
        std::thread::spawn(move || note(messages, answer, &received, &noted));
        self.connection = Some((writer, session));
        Ok(())
    }

    /// Does what the script says. A session that the router has ended takes no more.
    pub(crate) fn act(&mut self, action: &Action) {
        let octets = match (action, &self.connection) {
            (Action::Connect, _) => return self.start(),
            (Action::Close, Some((stream, _))) => {
                self.received.lock().unwrap().state = "closed by the neighbour".to_owned();
                return drop(stream.shutdown(std::net::Shutdown::Both));
            }
            (_, None) => panic!("{} has no session", self.script.name),
            (Action::Announce(route), Some((_, session))) => session.announce(route),
            (Action::Withdraw(prefixes, id), Some((_, session))) => session.withdraw(prefixes, *id),
            (Action::EndOfRib(family), Some((_, session))) => session.end_of_rib(*family),
            (Action::Refresh(family), Some((_, session))) => session.refresh(*family),
            (Action::Notify(octets), Some(_)) => {
                self.received.lock().unwrap().state = "ended by the neighbour".to_owned();
                message(NOTIFICATION, octets)
            }
            (Action::Raw(body), Some(_)) => message(crate::octets::UPDATE, body),
        };
        if let Some((stream, _)) = &mut self.connection {
            let _ = stream.write_all(&octets);
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        if let Some((stream, _)) = &self.connection {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn expect(messages: &mut Framed, wanted: u8) -> io::Result<Vec<u8>> {
    match messages.receive()? {
        (kind, body) if kind == wanted => Ok(body),
        (NOTIFICATION, body) => Err(io::Error::other(received::notification(&body))),
        (kind, body) => Err(io::Error::other(format!("message {kind} {body:?} and not {wanted}"))),
    }
}

/// Until the connection ends. A keepalive is answered by one.
fn note(mut messages: Framed, mut answer: TcpStream, received: &Mutex<Received>, session: &Session) {
    loop {
        let next = messages.receive();
        let mut received = received.lock().unwrap();
        match next {
            Ok((KEEPALIVE, _)) => drop(answer.write_all(&message(KEEPALIVE, &[]))),
            Ok((kind, body)) => received.apply(kind, &body, session),
            Err(_) => {
                if received.state == "up" {
                    received.state = "closed by the router".to_owned();
                }
                return;
            }
        }
    }
}
