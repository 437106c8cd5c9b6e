//! Two routers on a wire, each in a network namespace of its own, removed whatever happens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tortie_proto::bird::{self, bird_client::BirdClient};
use tortie_proto::common::Hello;

/// Nothing here takes longer, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A folder and two namespaces, `a` with 10.77.0.1 and fd77::1, `b` with 10.77.0.2 and fd77::2.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
    name: String,
}

/// A process that ends with its value.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn signal(&mut self, signal: &str) {
        run(Command::new("kill").arg(signal).arg(self.0.id().to_string()));
    }

    /// Waits for the end by itself.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        eventually("the process ends", || self.0.try_wait().unwrap())
    }
}

pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The path of a program that must be there.
pub(crate) fn tool(path: &str) -> &str {
    assert!(
        Path::new(path).is_file(),
        "{path} is not installed; `make deps` installs it"
    );
    path
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Tries until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    eventually_or(|| attempt().ok_or(what))
}

/// Tries until there is an answer; an error says what is missing.
pub(crate) fn eventually_or<T, E: std::fmt::Display>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(missing) => assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {missing}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        let name = format!(
            "tt-i1-{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let lab = Lab {
            folder: tempfile::tempdir().unwrap(),
            name,
        };
        // Some daemons give up root before they open their files.
        open_to_all(lab.folder.path());
        for side in ["a", "b"] {
            run(Command::new("ip").args(["netns", "add", &lab.netns(side)]));
        }
        let (a, b) = (lab.netns("a"), lab.netns("b"));
        run(Command::new("ip").args([
            "-n", &a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &b,
        ]));
        for (side, number) in [("a", "1"), ("b", "2")] {
            let ip = |args: &str| {
                run(Command::new("ip").args(["-n", &lab.netns(side)]).args(args.split(' ')));
            };
            ip("link set lo up");
            ip("link set eth0 up");
            ip(&format!("address add 10.77.0.{number}/24 dev eth0"));
            ip(&format!("address add fd77::{number}/64 dev eth0 nodad"));
        }
        lab
    }

    /// Waits until both sides' link-local addresses are known to be nobody else's.
    pub(crate) fn has_link_locals(&self) {
        for side in ["a", "b"] {
            let mut show = Command::new("ip");
            show.args([
                "-n",
                &self.netns(side),
                "-6",
                "address",
                "show",
                "dev",
                "eth0",
                "scope",
                "link",
            ]);
            show.arg("-tentative");
            eventually("a link-local address is usable", || {
                let shown = run(&mut show).stdout;
                String::from_utf8_lossy(&shown).contains("fe80::").then_some(())
            });
        }
    }

    pub(crate) fn netns(&self, side: &str) -> String {
        format!("{}-{side}", self.name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, side: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns(side)]).arg(program);
        command
    }

    /// A folder that anybody may pass through.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        open_to_all(&path);
        path
    }

    /// A third side, `c` with 10.77.0.3 and fd77::3, on the same wire: it ends at a bridge in b.
    pub(crate) fn third(&self) {
        let (b, c) = (self.netns("b"), self.netns("c"));
        let ip = |args: &str| run(Command::new("ip").args(args.split(' ')));
        ip(&format!("netns add {c}"));
        ip(&format!("-n {b} link add br0 type bridge"));
        ip(&format!("-n {b} link add c type veth peer name eth0 netns {c}"));
        ip(&format!("-n {b} address flush dev eth0"));
        for change in ["set eth0 master br0", "set c master br0", "set c up", "set br0 up"] {
            ip(&format!("-n {b} link {change}"));
        }
        ip(&format!("-n {b} address add 10.77.0.2/24 dev br0"));
        ip(&format!("-n {b} address add fd77::2/64 dev br0 nodad"));
        ip(&format!("-n {c} link set eth0 up"));
        ip(&format!("-n {c} address add 10.77.0.3/24 dev eth0"));
        ip(&format!("-n {c} address add fd77::3/64 dev eth0 nodad"));
    }

    /// Runs `ip` on a side.
    pub(crate) fn ip(&self, side: &str, arguments: &str) {
        run(Command::new("ip")
            .args(["-n", &self.netns(side)])
            .args(arguments.split(' ')));
    }

    /// Another address for a side.
    pub(crate) fn address(&self, side: &str, interface: &str, address: &str) {
        run(Command::new("ip").args(["-n", &self.netns(side), "address", "add", address, "dev", interface]));
    }

    /// A counter of the kernel's TCP in a namespace.
    pub(crate) fn tcp_counter(&self, side: &str, name: &str) -> u64 {
        let output = run(self.command(side, "cat").arg("/proc/net/netstat"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut rows = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
        let at = names.split(' ').position(|known| known == name);
        let at = at.unwrap_or_else(|| panic!("this kernel does not count {name}"));
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }

    /// bird-rs with this configuration, its gRPC on a socket in the folder; it recovers from a restart.
    pub(crate) fn bird_rs(&self, side: &str, config: &str) -> Running {
        self.bird_rs_with(side, config, &["-R"])
    }

    /// Likewise, with these arguments.
    pub(crate) fn bird_rs_with(&self, side: &str, config: &str, arguments: &[&str]) -> Running {
        let config = self.write(&format!("{side}.conf"), config);
        let mut command = self.command(side, env!("CARGO_BIN_EXE_bird-rs"));
        command
            .arg("-c")
            .arg(config)
            .args(["--log-level", "info,bird_rs=debug", "--grpc", &self.grpc(side)])
            .args(arguments)
            .arg("-P")
            .arg(self.path(&format!("{side}.pid")))
            .arg("-s")
            .arg(self.path(&format!("{side}.ctl")));
        self.spawn(command, side)
    }

    /// Starts a daemon whose output becomes the log of this name.
    pub(crate) fn spawn(&self, mut command: Command, name: &str) -> Running {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))
            .unwrap();
        let both = log.try_clone().unwrap();
        Running(command.stdin(Stdio::null()).stdout(both).stderr(log).spawn().unwrap())
    }

    /// Where the gRPC of a bird-rs answers.
    pub(crate) fn grpc(&self, name: &str) -> String {
        format!("unix:{}", self.path(&format!("{name}.sock")).display())
    }

    pub(crate) fn log(&self, side: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{side}.log"))).unwrap_or_default()
    }

    /// Stock BIRD. With `recover` it asks its peers to have kept its routes.
    pub(crate) fn bird(&self, side: &str, config: &str, recover: bool) -> Running {
        let config = self.write(&format!("{side}-bird.conf"), config);
        let mut command = self.command(side, tool("/usr/sbin/bird"));
        command
            .arg("-f")
            .arg("-c")
            .arg(config)
            .arg("-s")
            .arg(self.path("bird.ctl"))
            .arg("-P")
            .arg(self.path("bird.pid"));
        if recover {
            command.arg("-R");
        }
        self.spawn(command, "bird")
    }

    pub(crate) fn birdc(&self, what: &str) -> String {
        self.birdc_of("bird", what)
    }

    /// What stock birdc says of the daemon whose socket has this name.
    pub(crate) fn birdc_of(&self, name: &str, what: &str) -> String {
        let socket = self.path(&format!("{name}.ctl"));
        let output = Command::new("birdc")
            .arg("-s")
            .arg(socket)
            .args(what.split(' '))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn client(&self, side: &str) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let addr: tortie_kit::address::ServiceAddr = self.grpc(side).parse().unwrap();
        let channel = eventually("bird-rs answers", || {
            runtime.block_on(addr.connect(Duration::from_millis(200))).ok()
        });
        Client {
            runtime,
            bird: BirdClient::new(channel),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in ["a", "b", "c"] {
            // Also the processes of a daemon that started some itself. It may never have been made.
            let _ = Command::new("sh")
                .arg("-c")
                .arg(format!("kill -KILL $(ip netns pids {}) 2>/dev/null", self.netns(side)))
                .stderr(Stdio::null())
                .status();
            let _ = Command::new("ip")
                .args(["netns", "del", &self.netns(side)])
                .stderr(Stdio::null())
                .status();
        }
        if std::thread::panicking() {
            for file in std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
                if file.path().extension().is_some_and(|kind| kind == "log") {
                    let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                    eprintln!("--- {}\n{text}", file.path().display());
                }
            }
        }
    }
}

/// A gRPC client that waits.
pub(crate) struct Client {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) bird: BirdClient<tonic::transport::Channel>,
}

pub(crate) fn hello() -> Option<Hello> {
    Some(Hello::new("test", "", "1"))
}

impl Client {
    pub(crate) fn protocols(&mut self) -> Vec<bird::Protocol> {
        let request = bird::ShowProtocolsRequest {
            hello: hello(),
            name: String::new(),
        };
        self.runtime
            .block_on(self.bird.show_protocols(request))
            .unwrap()
            .into_inner()
            .protocols
    }

    pub(crate) fn session(&mut self, name: &str) -> bird::BgpSession {
        let protocol = self
            .protocols()
            .into_iter()
            .find(|protocol| protocol.name == name)
            .unwrap();
        protocol.bgp.unwrap()
    }

    pub(crate) fn established(&mut self, name: &str) {
        eventually(&format!("session {name} is established"), || {
            (self.session(name).state == "Established").then_some(())
        });
    }

    pub(crate) fn routes(&mut self) -> Vec<bird::Route> {
        self.selected(bird::ShowRoutesRequest::default())
    }

    fn selected(&mut self, request: bird::ShowRoutesRequest) -> Vec<bird::Route> {
        let request = bird::ShowRoutesRequest {
            hello: hello(),
            ..request
        };
        let bird = &mut self.bird;
        self.runtime.block_on(async {
            let mut stream = bird.show_routes(request).await.unwrap().into_inner();
            let mut routes = Vec::new();
            while let Some(route) = stream.message().await.unwrap() {
                routes.push(route);
            }
            routes
        })
    }

    /// The routes learned from a protocol, as `prefix via next hop`, with `stale` where they are.
    pub(crate) fn learned(&mut self, protocol: &str) -> Vec<String> {
        let routes = self.routes().into_iter().filter(|route| route.protocol == protocol);
        let mut shown: Vec<String> = routes
            .map(|route| {
                let prefix = tortie_net::Prefix::try_from(&route.prefix.unwrap()).unwrap();
                let stale = if route.stale { " stale" } else { "" };
                // Behind the address to resolve there may be a link-local one.
                let next_hop = route.bgp_next_hop.split(' ').next().unwrap_or_default();
                format!("{prefix} via {next_hop}{stale}")
            })
            .collect();
        shown.sort();
        shown
    }

    /// Waits until exactly this is learned from a protocol.
    pub(crate) fn learns(&mut self, protocol: &str, wanted: &[&str]) {
        eventually_or(|| {
            let last = self.learned(protocol);
            if last == wanted {
                Ok(())
            } else {
                Err(format!("learned {last:?}, wanted {wanted:?}"))
            }
        });
    }

    /// The route to a prefix that a protocol learned.
    pub(crate) fn route(&mut self, protocol: &str, prefix: &str) -> Option<bird::Route> {
        self.paths(protocol, prefix).into_iter().next()
    }

    /// All paths to a prefix that a protocol learned.
    pub(crate) fn paths(&mut self, protocol: &str, prefix: &str) -> Vec<bird::Route> {
        let prefix: tortie_net::Prefix = prefix.parse().unwrap();
        let request = bird::ShowRoutesRequest {
            prefix: Some(prefix.into()),
            protocol: protocol.to_owned(),
            ..Default::default()
        };
        self.selected(request)
    }

    pub(crate) fn configure(&mut self, text: &str, check_only: bool, revision: &str) -> bird::ConfigureResponse {
        let request = bird::ConfigureRequest {
            hello: hello(),
            file: "given.conf".to_owned(),
            text: Some(text.to_owned()),
            check_only,
            revision: revision.to_owned(),
            ..Default::default()
        };
        self.runtime
            .block_on(self.bird.configure(request))
            .unwrap()
            .into_inner()
    }

    pub(crate) fn status(&mut self) -> bird::StatusResponse {
        self.runtime
            .block_on(self.bird.status(bird::StatusRequest { hello: hello() }))
            .unwrap()
            .into_inner()
    }

    /// Follows the best routes until `enough` is satisfied with them: prefix, and next hops as text.
    pub(crate) fn fib_until(&mut self, enough: impl Fn(&std::collections::BTreeMap<String, String>, bool) -> bool) {
        let bird = &mut self.bird;
        self.runtime.block_on(async {
            let mut stream = bird
                .fib(bird::FibRequest { hello: hello() })
                .await
                .unwrap()
                .into_inner();
            let first = stream.message().await.unwrap().unwrap();
            assert!(
                matches!(first.message, Some(bird::fib_message::Message::Hello(_))),
                "{first:?}"
            );
            let mut routes = std::collections::BTreeMap::new();
            let mut in_sync = false;
            let follow = async {
                while !enough(&routes, in_sync) {
                    match stream.message().await.unwrap().unwrap().message.unwrap() {
                        bird::fib_message::Message::Batch(batch) => {
                            for route in batch.set {
                                let prefix = tortie_net::Prefix::try_from(&route.prefix.unwrap()).unwrap();
                                let hops = route.next_hops.iter().filter_map(|hop| tortie_proto::ip(&hop.address));
                                let hops: Vec<String> = hops.map(|hop| hop.to_string()).collect();
                                routes.insert(prefix.to_string(), hops.join(" "));
                            }
                            for prefix in batch.delete {
                                let prefix = tortie_net::Prefix::try_from(&prefix).unwrap();
                                routes.remove(&prefix.to_string());
                            }
                        }
                        bird::fib_message::Message::InSync(_) => in_sync = true,
                        bird::fib_message::Message::Hello(_) => panic!("a second hello"),
                    }
                }
            };
            let in_time = tokio::time::timeout(PATIENCE, follow).await;
            assert!(
                in_time.is_ok(),
                "the fib never became what it should be: {routes:?}, in sync: {in_sync}"
            );
        });
    }
}

/// Connects from a namespace and sends octets, keeping the connection until the other side closes.
pub(crate) fn talk(lab: &Lab, side: &str, to: SocketAddr, octets: &[u8]) {
    let path = lab.path(&format!("octets-{}", SERIAL.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&path, octets).unwrap();
    let script = format!(
        "exec 3<>/dev/tcp/{}/{}; cat {} >&3; timeout 2 cat <&3 >/dev/null",
        to.ip(),
        to.port(),
        quoted(&path)
    );
    // Whether the other side closes or resets makes no difference.
    let _ = lab
        .command(side, "bash")
        .arg("-c")
        .arg(script)
        .stderr(Stdio::null())
        .status();
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
