//! The keys that segments are signed with (RFC 2385, RFC 5925): on sockets that listen, connect, and are connected.
//!
//! What cannot be signed as it has to be is refused: a listener without a peer's key would take that peer's segments, and
//! anybody's who claims to be it, without any signature.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use tortie_bgp::config::{AoChange, AoKey, Authentication, Config, Neighbor, ProtocolKind};
use tortie_net::Prefix;
use tortie_netlink::sockopt::{self, ao};

/// How the segments of peers are signed by a configuration. Of ranges only TCP-AO is here: a password of theirs that changes
/// begins their sessions anew.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    peers: HashMap<IpAddr, Authentication>,
    ranges: Vec<(Prefix, Authentication)>,
}

impl Keyring {
    /// As a configuration has them.
    pub(crate) fn new(config: &Config) -> Self {
        let mut keyring = Keyring::default();
        // Disabled ones too: they may be enabled at any time.
        for protocol in &config.protocols {
            let ProtocolKind::Bgp(bgp) = &protocol.kind else {
                continue;
            };
            let how = &bgp.transport.authentication;
            match (&bgp.neighbor, how) {
                (Neighbor::Address(address), how) => {
                    let known = keyring.peers.entry(*address).or_insert(Authentication::None);
                    if strength(how) > strength(known) {
                        known.clone_from(how);
                    }
                }
                (Neighbor::Range { prefix, .. }, Authentication::Ao(_)) => keyring.ranges.push((*prefix, how.clone())),
                (Neighbor::Range { .. }, Authentication::None | Authentication::Md5(_)) => {}
            }
        }
        keyring
    }

    /// The keys of whoever connects from there, and the peers that a listener has them for. `None` when there are none.
    fn of(&self, remote: IpAddr) -> Option<(Prefix, &Authentication)> {
        let remote = remote.to_canonical();
        match self.peers.get(&remote) {
            Some(Authentication::None) => None,
            Some(how) => Some((Prefix::host(remote), how)),
            None => {
                let ranges = self.ranges.iter().filter(|(range, _)| range.contains(remote));
                let nearest = ranges.max_by_key(|(range, _)| range.len());
                nearest.map(|(range, how)| (*range, how))
            }
        }
    }
}

/// Of several protocols with one peer the one that signs best says what is done on a connection that it opens.
fn strength(how: &Authentication) -> u8 {
    match how {
        Authentication::None => 0,
        Authentication::Md5(_) => 1,
        Authentication::Ao(_) => 2,
    }
}

/// A connection whose segments are signed.
#[derive(Debug)]
pub(crate) struct Signed {
    socket: OwnedFd,
    peers: Prefix,
    remote: IpAddr,
    how: Authentication,
}

impl Signed {
    /// A connection that was accepted; `None` when it is not to be signed. It has the keys of the listener.
    ///
    /// # Errors
    /// The system's: above all when it has to be signed with TCP-AO and is not.
    pub(crate) fn accepted(stream: &impl AsFd, remote: IpAddr, keyring: &Keyring) -> io::Result<Option<Self>> {
        let Some((peers, how)) = keyring.of(remote) else {
            return Ok(None);
        };
        if let Authentication::Ao(keys) = how {
            ao::request(stream, keys.selected().recv_id)?;
        }
        Self::new(stream, peers, remote, how).map(Some)
    }

    /// A connection that is to be made, which is given its keys; `None` when it is not to be signed.
    ///
    /// # Errors
    /// The system's: above all when the kernel has no TCP-AO.
    pub(crate) fn connecting(socket: &impl AsFd, remote: IpAddr, how: &Authentication) -> io::Result<Option<Self>> {
        let peers = Prefix::host(remote);
        match how {
            Authentication::None => return Ok(None),
            Authentication::Md5(password) => sockopt::set_md5_key(socket, peers, password.as_bytes())?,
            Authentication::Ao(keys) => {
                let begin = keys.selected().ids();
                for key in keys.iter() {
                    ao::add(socket, peers, &plain(key), key.ids() == begin)?;
                }
            }
        }
        Self::new(socket, peers, remote, how).map(Some)
    }

    fn new(socket: &impl AsFd, peers: Prefix, remote: IpAddr, how: &Authentication) -> io::Result<Self> {
        let (socket, how) = (socket.as_fd().try_clone_to_owned()?, how.clone());
        Ok(Signed {
            socket,
            peers,
            remote,
            how,
        })
    }

    /// Gives it the keys that its peer has now. Nothing happens when these are they, or when there is no way from the old
    /// ones to them: then the session has been ended.
    ///
    /// # Errors
    /// The system's. The connection may have too many or too few keys then.
    pub(crate) fn follow(&mut self, keyring: &Keyring) -> io::Result<()> {
        let wanted = keyring.of(self.remote).map(|(_, how)| how);
        let Some(wanted) = wanted.filter(|wanted| **wanted != self.how) else {
            return Ok(());
        };
        match (&self.how, wanted) {
            (Authentication::Md5(_), Authentication::Md5(password)) => {
                sockopt::set_md5_key(&self.socket, self.peers, password.as_bytes())?;
            }
            (Authentication::Ao(keys), Authentication::Ao(new)) => match keys.towards(new) {
                Some(change) => self.rekey(&change)?,
                None => return Ok(()),
            },
            _ => return Ok(()),
        }
        self.how = wanted.clone();
        tracing::info!(remote = %self.remote, keys = ?self.how, "changed the keys of a connection");
        Ok(())
    }

    fn rekey(&self, change: &AoChange) -> io::Result<()> {
        for ids in &change.remove {
            ao::remove(&self.socket, self.peers, *ids, Some(change.instead))?;
        }
        for key in &change.add {
            ao::add(&self.socket, self.peers, &plain(key), false)?;
        }
        ao::request(&self.socket, change.request)
    }
}

/// The keys that a listener has, and those that it should have and could not be given.
#[derive(Debug, Default)]
pub(crate) struct ListenerKeys {
    set: Vec<(Prefix, Authentication)>,
    missing: Vec<Prefix>,
}

impl ListenerKeys {
    /// Makes a listener's keys what is wanted; gives whose could not be set, and why.
    pub(crate) fn follow(
        &mut self,
        listener: &impl AsFd,
        wanted: &[(Prefix, Authentication)],
    ) -> Vec<(Prefix, io::Error)> {
        let gone: Vec<_> = self.set.extract_if(.., |entry| !wanted.contains(entry)).collect();
        for (peers, old) in &gone {
            let new = wanted.iter().find(|(other, _)| other == peers).map(|(_, new)| new);
            if let Err(error) = unset(listener, *peers, old, new) {
                tracing::error!(%peers, %error, "cannot take a key from a listener");
            }
        }
        let mut failed = Vec::new();
        for (peers, new) in wanted {
            let entry = (*peers, new.clone());
            if self.set.contains(&entry) {
                continue;
            }
            let old = gone.iter().find(|(other, _)| other == peers).map(|(_, old)| old);
            match set(listener, *peers, old, new) {
                Ok(()) => self.set.push(entry),
                Err(error) => {
                    clear(listener, *peers, new);
                    failed.push((*peers, error));
                }
            }
        }
        self.missing = failed.iter().map(|(peers, _)| *peers).collect();
        failed
    }

    /// Must connections from there be refused?
    pub(crate) fn refuse(&self, remote: IpAddr) -> bool {
        let remote = remote.to_canonical();
        self.missing.iter().any(|peers| peers.contains(remote))
    }
}

/// Takes from a listener what `new` does not have, or replaces by itself.
fn unset(listener: &impl AsFd, peers: Prefix, old: &Authentication, new: Option<&Authentication>) -> io::Result<()> {
    match (old, new) {
        (Authentication::None, _) | (Authentication::Md5(_), Some(Authentication::Md5(_))) => Ok(()),
        (Authentication::Md5(_), _) => sockopt::set_md5_key(listener, peers, b""),
        (Authentication::Ao(old), Some(Authentication::Ao(new))) => remove(listener, peers, new.lacks(old)),
        (Authentication::Ao(old), _) => remove(listener, peers, old.iter()),
    }
}

fn remove<'a>(listener: &impl AsFd, peers: Prefix, mut keys: impl Iterator<Item = &'a AoKey>) -> io::Result<()> {
    keys.try_for_each(|key| ao::remove(listener, peers, key.ids(), None))
}

/// Gives a listener what it does not have.
fn set(listener: &impl AsFd, peers: Prefix, old: Option<&Authentication>, new: &Authentication) -> io::Result<()> {
    let add = |key: &AoKey| ao::add(listener, peers, &plain(key), false);
    match (old, new) {
        (_, Authentication::None) => Ok(()),
        (_, Authentication::Md5(key)) => sockopt::set_md5_key(listener, peers, key.as_bytes()),
        (Some(Authentication::Ao(old)), Authentication::Ao(new)) => old.lacks(new).try_for_each(add),
        (_, Authentication::Ao(new)) => new.iter().try_for_each(add),
    }
}

/// Takes those of a set of keys that were there before one could not be added, so that all can be tried again.
fn clear(listener: &impl AsFd, peers: Prefix, keys: &Authentication) {
    let Authentication::Ao(keys) = keys else { return };
    for key in keys.iter() {
        // Most of them are not there.
        let _ = ao::remove(listener, peers, key.ids(), None);
    }
}

fn plain(key: &AoKey) -> ao::AoKey<'_> {
    ao::AoKey {
        send_id: key.send_id,
        recv_id: key.recv_id,
        algorithm: key.algorithm.kernel_name(),
        secret: key.secret.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use tortie_bgp::config::{NoInclude, parse};

    use super::*;

    fn keyring(sessions: &[(&str, &str)]) -> Keyring {
        let text: String = sessions
            .iter()
            .enumerate()
            .map(|(at, (neighbor, options))| {
                format!(
                    "protocol bgp p{at} {{ local as 1; neighbor {neighbor} external; {options} ipv4 {{ import all; export all; }}; }}\n"
                )
            })
            .collect();
        Keyring::new(&parse("x.conf", &text, &mut NoInclude).unwrap())
    }

    const KEYS: &str = "authentication ao; keys { key { id 1; secret \"a\"; }; };";
    const OTHERS: &str = "authentication ao; keys { key { id 2; secret \"b\"; }; };";

    #[test]
    fn everybody_has_the_keys_of_his_own_protocol() {
        let keyring = keyring(&[
            ("10.0.0.2", KEYS),
            ("10.1.0.9", "password \"x\";"),
            ("range 10.1.0.0/16", OTHERS),
            ("range 10.0.0.0/8", KEYS),
            ("range 192.0.2.0/24", ""),
        ]);
        let of = |addr: &str| {
            let found = keyring.of(addr.parse().unwrap());
            found.map(|(peers, how)| match how {
                Authentication::Ao(keys) => (peers.to_string(), Some(keys.selected().send_id)),
                Authentication::None | Authentication::Md5(_) => (peers.to_string(), None),
            })
        };
        assert_eq!(of("10.0.0.2"), Some(("10.0.0.2/32".into(), Some(1))));
        let own = Some(("10.1.0.9/32".into(), None));
        assert_eq!(of("10.1.0.9"), own, "its own protocol's, not its range's");
        assert_eq!(of("::ffff:10.1.0.10"), Some(("10.1.0.0/16".into(), Some(2))));
        assert_eq!(of("10.2.0.1"), Some(("10.0.0.0/8".into(), Some(1))));
        assert_eq!(of("192.0.2.1"), None);
    }

    /// Whatever the kernel can: who should sign and does not, gets in nowhere.
    #[test]
    fn a_connection_that_is_not_signed_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, remote) = listener.accept().unwrap();
        assert!(Signed::accepted(&stream, remote.ip(), &keyring(&[("127.0.0.1", KEYS)])).is_err());
        let free = Signed::accepted(&stream, remote.ip(), &keyring(&[("127.0.0.1", "")]));
        assert!(free.unwrap().is_none());
    }

    fn connect(to: std::net::SocketAddr, how: &Authentication) -> bool {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
        Signed::connecting(&socket, to.ip(), how).unwrap();
        socket.connect_timeout(&to.into(), Duration::from_millis(700)).is_ok()
    }

    /// While the two ends have different passwords nothing arrives, and nothing is lost.
    #[test]
    fn a_connection_follows_when_its_password_changes() {
        let with = |options| keyring(&[("127.0.0.1", options)]);
        let (before, after) = (with("password \"old\";"), with("password \"new\";"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (to, peers) = (listener.local_addr().unwrap(), "127.0.0.1/32".parse().unwrap());
        let how = Authentication::Md5("old".to_owned());
        assert!(
            ListenerKeys::default()
                .follow(&listener, &[(peers, how.clone())])
                .is_empty()
        );
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
        let mut ours = Signed::connecting(&socket, to.ip(), &how).unwrap().unwrap();
        socket.connect_timeout(&to.into(), Duration::from_secs(5)).unwrap();
        let (mut stream, remote) = listener.accept().unwrap();
        let mut theirs = Signed::accepted(&stream, remote.ip(), &before).unwrap().unwrap();
        ours.follow(&after).unwrap();
        socket.send(b"meow").unwrap();
        let mut buffer = [0; 4];
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(stream.read(&mut buffer).is_err(), "signed with another password");
        theirs.follow(&after).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"meow");
    }

    #[test]
    fn a_listener_follows_and_knows_whom_it_cannot_check() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (to, peers) = (listener.local_addr().unwrap(), "127.0.0.1/32".parse().unwrap());
        let md5 = |password: &str| Authentication::Md5(password.to_owned());
        let ao = |options| match keyring(&[("127.0.0.1", options)]).of(to.ip()) {
            Some((_, keys)) => keys.clone(),
            None => Authentication::None,
        };
        let mut keys = ListenerKeys::default();
        for password in ["first", "second"] {
            assert!(keys.follow(&listener, &[(peers, md5(password))]).is_empty());
            assert!(connect(to, &md5(password)));
            assert!(!connect(to, &md5("third")));
        }
        for options in [KEYS, OTHERS] {
            let failed = keys.follow(&listener, &[(peers, ao(options))]);
            assert_eq!(keys.refuse(to.ip()), !failed.is_empty());
            match failed.first() {
                Some((whose, error)) => {
                    assert_eq!(*whose, peers);
                    assert!(error.to_string().contains("CONFIG_TCP_AO"), "{error}");
                }
                None => {
                    assert!(connect(to, &ao(options)));
                    assert!(!connect(to, &ao(if options == KEYS { OTHERS } else { KEYS })));
                }
            }
        }
        assert!(keys.follow(&listener, &[]).is_empty());
        assert!(!keys.refuse(to.ip()));
        assert!(connect(to, &Authentication::None));
    }
}
