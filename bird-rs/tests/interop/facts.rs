//! What birdc shows beside protocols and routes, typed over gRPC: the same facts.

use tonic::Code;
use tortie_proto::bird::bird_facts_client::BirdFactsClient;
use tortie_proto::bird::bird_operator_client::BirdOperatorClient;
use tortie_proto::bird::static_route::Destination;
use tortie_proto::bird::{
    EvaluateRequest, ListInterfacesRequest, ListRoasRequest, ListRoutesRequest, ListStaticRoutesRequest,
    ListSymbolsRequest, MemoryRequest, RouteType, StaticRoute, TableRoa,
};
use tortie_proto::common::Prefix;

use crate::lab::{Lab, hello};

const FILE: &str = "router id 10.77.0.1;
define X = 5;
function f(int a) { return a * X; }
filter g { accept; }
protocol device { }
protocol static s4 { ipv4; route 10.1.0.0/24 blackhole; route 10.2.0.0/24 blackhole; }
";

#[test]
fn grpc_tells_what_birdc_shows() {
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", FILE);
    let client = lab.client("a");
    let addr: tortie_kit::address::ServiceAddr = lab.grpc("a").parse().unwrap();
    client.runtime.block_on(async {
        let channel = addr.connect(crate::lab::PATIENCE).await.unwrap();
        let mut facts = BirdFactsClient::new(channel);
        let request = ListInterfacesRequest { hello: hello() };
        let listed = facts.list_interfaces(request).await.unwrap().into_inner().interfaces;
        let shown = lab.birdc_of("a", "show interfaces");
        for interface in &listed {
            assert!(shown.contains(&format!("{} ", interface.name)), "{shown}");
            assert!(shown.contains(&format!("index={}", interface.index)), "{shown}");
        }
        let eth0 = listed.iter().find(|interface| interface.name == "eth0").unwrap();
        assert!(eth0.up && eth0.broadcast && !eth0.loopback && eth0.mtu == 1500);
        let v4 = eth0.addresses.iter().find(|one| one.address == "10.77.0.1").unwrap();
        let subnet = tortie_net::Prefix::try_from(v4.subnet.as_ref().unwrap()).unwrap();
        assert_eq!((subnet.to_string(), v4.secondary), ("10.77.0.0/24".to_owned(), false));

        let request = ListSymbolsRequest { hello: hello() };
        let symbols = facts.list_symbols(request).await.unwrap().into_inner().symbols;
        let shown = lab.birdc_of("a", "show symbols");
        let lines: Vec<String> = symbols
            .iter()
            .map(|symbol| format!("{:<8}\t{}", symbol.name, symbol.kind))
            .collect();
        assert!(lines.iter().all(|line| shown.contains(line)), "{lines:?} {shown}");
        assert!(lines.contains(&"f       \tfunction".to_owned()), "{lines:?}");

        let request = MemoryRequest { hello: hello() };
        let memory = facts.memory(request).await.unwrap().into_inner();
        assert_eq!((memory.prefixes, memory.paths), (2, 2));
        assert!(memory.resident_bytes > 1 << 20);

        for (expression, value) in [
            ("f(3) + 1", Ok("16")),
            ("1 +", Err(Code::InvalidArgument)),
            ("net", Err(Code::FailedPrecondition)),
        ] {
            let request = EvaluateRequest {
                hello: hello(),
                expression: expression.to_owned(),
            };
            let answer = facts.evaluate(request).await;
            let answer = answer
                .map(|answer| answer.into_inner().value)
                .map_err(|status| status.code());
            assert_eq!(answer, value.map(str::to_owned), "{expression}");
        }
    });
}

fn shown(prefix: Option<&Prefix>) -> String {
    tortie_net::Prefix::try_from(prefix.unwrap()).unwrap().to_string()
}

/// As birdc shows it, in one line.
fn as_birdc(route: &StaticRoute) -> String {
    let net = shown(route.prefix.as_ref());
    let address = |octets: &[u8]| tortie_proto::ip(octets).unwrap().to_string();
    match route.destination.as_ref().unwrap() {
        Destination::Dropped(kind) => match RouteType::try_from(*kind).unwrap() {
            RouteType::Blackhole => format!("{net}\tblackhole"),
            RouteType::Unreachable => format!("{net}\tunreachable"),
            RouteType::Prohibit => format!("{net}\tprohibited"),
            RouteType::Unicast => panic!("nothing is dropped"),
        },
        Destination::Recursive(via) => format!("{net}\trecursive {}", address(via)),
        Destination::Roa(roa) => format!("{net}-{} AS{}\t", roa.max_length, roa.asn),
        Destination::NextHops(hops) => {
            let hop = |hop: &tortie_proto::bird::StaticNextHop| {
                let next = hop.next_hop.as_ref().unwrap();
                let to = match (&next.address[..], &*next.interface) {
                    ([], interface) => format!("dev {interface}"),
                    (octets, "") => format!("via {}", address(octets)),
                    (octets, interface) => format!("via {}%{interface}", address(octets)),
                };
                let onlink = if next.onlink { " onlink" } else { "" };
                let bfd = if hop.bfd { " (bfd)" } else { "" };
                let dormant = if hop.usable { "" } else { " (dormant)" };
                format!("\n\t{to}{onlink}{bfd}{dormant}")
            };
            net + &hops.next_hops.iter().map(hop).collect::<String>()
        }
    }
}

const ROUTES: &str = "router id 10.77.0.1;
roa4 table r4; roa6 table r6; roa4 table empty4;
protocol device { }
protocol bfd { }
protocol static s4 { ipv4;
  route 10.1.0.0/24 blackhole; route 10.1.1.0/24 unreachable; route 10.1.2.0/24 prohibit;
  route 10.1.3.0/24 recursive 10.77.0.9; route 10.1.4.0/24 via \"eth0\";
  route 10.1.5.0/24 via 10.77.0.8 weight 2 via 10.99.0.7;
  route 10.1.6.0/24 via 10.88.0.1%eth0 onlink bfd; }
protocol static sr { roa4 { table r4; }; route 10.0.0.0/8 max 24 as 65000; route 10.9.0.0/16 max 16 as 0; }
protocol static again { roa4 { table r4; preference 300; }; route 10.0.0.0/8 max 24 as 65000; }
protocol static many { roa6 { table r6; };
";

#[test]
fn grpc_tells_static_routes_and_roas() {
    const MANY: usize = 1200;
    let lab = Lab::new();
    let route = |n| format!("route 2001:db8:{n:x}::/48 max 64 as {};\n", n + 1);
    let _daemon = lab.bird_rs(
        "a",
        &(ROUTES.to_owned() + &(0..MANY).map(route).collect::<String>() + "}\n"),
    );
    let client = lab.client("a");
    let addr: tortie_kit::address::ServiceAddr = lab.grpc("a").parse().unwrap();
    client.runtime.block_on(async {
        let mut facts = BirdFactsClient::new(addr.connect(crate::lab::PATIENCE).await.unwrap());
        for (protocol, count) in [("s4", 7), ("sr", 2), ("", 10 + MANY)] {
            let request = ListStaticRoutesRequest {
                hello: hello(),
                protocol: protocol.to_owned(),
            };
            let mut stream = facts.list_static_routes(request).await.unwrap().into_inner();
            let mut told = Vec::new();
            while let Some(route) = stream.message().await.unwrap() {
                told.push(route);
            }
            assert_eq!(told.len(), count, "{protocol}");
            let birdc = lab.birdc_of("a", format!("show static {protocol}").trim_end());
            let birdc: String = birdc
                .lines()
                .skip_while(|line| !line.contains('/'))
                .collect::<Vec<_>>()
                .join("\n");
            let ours: Vec<String> = told.iter().map(as_birdc).collect();
            assert_eq!(ours.join("\n"), birdc.replace("\n\n", "\n"), "{protocol}");
        }
        for (table, nets) in [("r4", 2), ("empty4", 0), ("r6", MANY), ("", 2 + MANY)] {
            let told = roas(&mut facts, table).await.unwrap();
            let distinct: std::collections::BTreeSet<_> = told.iter().map(|roa| shown(roa.prefix.as_ref())).collect();
            assert_eq!((told.len(), distinct.len()), (nets, nets), "{table}");
        }
        let told = roas(&mut facts, "r4").await.unwrap();
        let first = told.first().unwrap();
        assert_eq!(shown(first.prefix.as_ref()), "10.0.0.0/8");
        assert_eq!(
            first.roa.as_ref().map(|roa| (roa.max_length, roa.asn)),
            Some((24, 65000))
        );
        let of: Vec<_> = first
            .sources
            .iter()
            .map(|of| (&*of.protocol, of.preference, of.of_cache))
            .collect();
        assert_eq!(of, [("again", 300, false), ("sr", 200, false)]);
        for nobody in ["master4", "nope"] {
            assert_eq!(roas(&mut facts, nobody).await.unwrap_err().code(), Code::NotFound);
        }
        let mut operator = BirdOperatorClient::new(addr.connect(crate::lab::PATIENCE).await.unwrap());
        let request = ListRoutesRequest {
            hello: hello(),
            query: "table r4".to_owned(),
            page_token: String::new(),
        };
        let refused = operator.list_routes(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let request = ListStaticRoutesRequest {
            hello: hello(),
            protocol: "device1".to_owned(),
        };
        assert_eq!(
            facts.list_static_routes(request).await.unwrap_err().code(),
            Code::NotFound
        );
    });
}

async fn roas(
    facts: &mut BirdFactsClient<tonic::transport::Channel>,
    table: &str,
) -> Result<Vec<TableRoa>, tonic::Status> {
    let request = ListRoasRequest {
        hello: hello(),
        table: table.to_owned(),
    };
    let mut stream = facts.list_roas(request).await?.into_inner();
    let mut told = Vec::new();
    while let Some(roa) = stream.message().await? {
        told.push(roa);
    }
    Ok(told)
}
