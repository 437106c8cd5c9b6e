//! An import policy as a network applies it to a transit provider's full table: bogons, lengths, paths with numbers that
//! must not be there, a customer's prefixes, preferences by community, and tags of its own. It accepts every route of the
//! tester's, so that what comes out can be counted.

use std::fmt::Write as _;

/// The filter's name.
pub(crate) const NAME: &str = "from_transit";

/// Networks of customers, which must not come from elsewhere.
const CUSTOMERS: u32 = 1000;

/// The filter and what it calls, in BIRD's language.
pub(crate) fn text() -> String {
    let mut text = String::from("define CUSTOMERS = [\n");
    for number in 0..CUSTOMERS {
        let end = if number + 1 < CUSTOMERS { "," } else { "" };
        // Not where the tester's prefixes are: 16.0.0.0 to 31.255.255.255.
        let _ = writeln!(text, "  {}.{}.0.0/20{{20,24}}{end}", 100 + number / 250, number % 250);
    }
    text += "];\n";
    text + POLICY
}

const POLICY: &str = "
define BOGONS = [ 0.0.0.0/8+, 10.0.0.0/8+, 100.64.0.0/10+, 127.0.0.0/8+, 169.254.0.0/16+, 172.16.0.0/12+,
  192.0.2.0/24+, 192.168.0.0/16+, 198.18.0.0/15+, 198.51.100.0/24+, 203.0.113.0/24+, 224.0.0.0/3+ ];
define BOGON_ASNS = [ 0, 23456, 64496..131071, 4294967295 ];

function refused() {
  if net.len < 8 || net.len > 24 then return true;
  if net ~ BOGONS || net ~ CUSTOMERS then return true;
  if bgp_path.len > 64 || bgp_path ~ BOGON_ASNS then return true;
  return bgp_path ~ [= * 174 * 701 * =];
}

function preference_of(int middle) {
  case bgp_path.len {
    1, 2: return middle + 20;
    3: return middle + 10;
    4..6: return middle;
    else: return middle - 10;
  }
}

filter from_transit {
  if refused() then reject;
  bgp_local_pref = preference_of(100);
  if (65000,120) ~ bgp_community then bgp_local_pref = 120;
  if bgp_community ~ [(65000,70..89)] then bgp_local_pref = 80;
  if bgp_path ~ [= * 3356 1299..1301 * =] then bgp_med = 50; else bgp_med = bgp_path.len * 10;
  bgp_community.delete([(65000,*), (65001,*)]);
  bgp_community.add((65000,1000));
  if bgp_community ~ [(3356,100..119)] then bgp_community.add((65000,2001));
  else bgp_community.add((65000,2002));
  bgp_large_community.add((65000, 1, bgp_path.first));
  accept;
}
";
