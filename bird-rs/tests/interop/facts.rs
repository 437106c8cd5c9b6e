//! What birdc shows beside protocols and routes, typed over gRPC: the same facts.

use tonic::Code;
use tortie_proto::bird::bird_facts_client::BirdFactsClient;
use tortie_proto::bird::{EvaluateRequest, ListInterfacesRequest, ListSymbolsRequest, MemoryRequest};

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
