//! The real program against other BGP speakers and against itself, over real sockets in network namespaces. Needs root,
//! iproute2, and what it talks to: BIRD 2, FRR, GoBGP, OpenBGPD and ExaBGP; and what reads what it writes: bgpdump, pmacct,
//! tshark. All are installed by `make deps`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod add_path;
mod authentication;
mod bfd;
mod bird;
mod bird_peer;
mod birdc;
mod bmp;
mod check_link;
mod command_line;
mod exabgp;
mod exporter;
mod extended;
mod facts;
mod features;
mod foreign;
mod forwarding;
mod frr;
mod gobgp;
mod hostname;
mod ipv6;
mod kernel;
mod lab;
mod leaving;
mod link_local;
mod local_as;
mod logging;
mod long_lived;
mod mapped;
mod mrt;
mod next_hop;
mod old_as;
mod openbgpd;
mod operator;
mod range;
mod reach;
mod reconfigure;
mod refresh;
mod roles;
mod rpki;
mod trials;
mod verdicts;
mod words;
