//! Whole configurations: parsed, printed, compared.

mod differences;
mod goldens;
mod language;
mod properties;
mod whole;

use super::*;

/// Parses, and shows all errors if it must.
pub(super) fn parsed(text: &str) -> Config {
    match parse("test.conf", text, &mut NoInclude) {
        Ok(config) => config,
        Err(errors) => {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("{}", all.join("\n"))
        }
    }
}

/// What confd renders for a node: the contract of the two.
pub(super) const NODE: &str = r#"
router id 172.30.0.11;
log stderr all;
define POOL = 10.244.0.0/16;
function is_ours(prefix p) { return p ~ [ 10.244.0.0/16{26,32} ]; }
filter to_kernel_v4 { if source = RTS_STATIC then reject; if is_ours(net) then accept; reject "not ours"; }
filter to_kernel_v6 { accept; }
filter export_peer {
  if net ~ [ 10.244.0.0/16{26,32} ] then { bgp_community.add((64512,100)); accept; }
  case source { RTS_STATIC: accept; RTS_BGP, RTS_DEVICE: bgp_path.prepend(64512); accept; else: reject; }
}
protocol device { }
protocol static own_blocks_v4 { ipv4; route 10.244.0.0/26 blackhole; }
protocol felix { ipv4 { export filter to_kernel_v4; }; ipv6 { export filter to_kernel_v6; }; }
template bgp bgp_template {
  local 172.30.0.11 as 64512; connect retry time 5; error wait time 5, 30; hold time 240;
  graceful restart on; graceful restart time 120; direct;
}
protocol bgp Mesh_172_30_0_12 from bgp_template {
  neighbor 172.30.0.12 as 64512; source address 172.30.0.11; passive on;
  ipv4 { import all; export filter export_peer; next hop self; import limit 100 action restart; };
  ipv6 { import all; export filter export_peer; next hop address 2001:db8::1; };
}
protocol bgp Global_172_30_0_1 from bgp_template {
  neighbor 172.30.0.1 port 179 as 65001; password "x";
  ipv4 {
    import where net.len < 25;
    export filter { if bgp_path ~ [= 64512 * =] then reject; accept; };
    next hop keep;
  };
}
"#;
