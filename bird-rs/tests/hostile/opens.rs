//! OPENs with more optional parameters than one octet can count (RFC 9072). Ours are never that long.

use crate::Scene;
use crate::lab::eventually_or;
use crate::scripted::{Peer, capabilities, open_with};

const ODD: [u8; 4] = [10, 77, 0, 4];

/// The extended form: what stands where the length was, and the parameters with lengths of two octets.
fn extended(first: u8, capabilities: &[u8]) -> Vec<u8> {
    let length = u16::try_from(capabilities.len()).unwrap();
    let mut octets = vec![first, 255];
    octets.extend((length + 3).to_be_bytes());
    octets.push(2);
    octets.extend(length.to_be_bytes());
    octets.extend(capabilities);
    octets
}

#[test]
fn more_parameters_than_an_octet_counts() {
    let mut scene = Scene::new("");
    let mut many = capabilities(65_004);
    // Of a kind that nobody knows.
    for code in 240..244 {
        many.extend([code, 200]);
        many.extend([code; 200]);
    }
    // Few may come in that form too, and the first octet need not be 255 then.
    for (first, offered) in [(255, &many), (255, &capabilities(65_004)), (20, &capabilities(65_004))] {
        let open = open_with(65_004, 90, ODD, &extended(first, offered));
        let mut odd = eventually_or(|| Peer::greet(&scene.lab, 4, &open, None));
        // With AS numbers of four octets in its paths, as was agreed on.
        odd.announce(0..10, 0).unwrap();
        scene.imports("Odd", 10);
        let route = scene.client.route("Odd", "20.0.0.0/24").unwrap();
        assert_eq!(route.as_path, "65004");
        let known = scene.client.session("Odd").neighbor_capabilities;
        assert!(known.iter().any(|name| name.contains("4-octet")), "{known:?}");
        drop(odd);
        scene.imports("Odd", 0);
    }

    // A length that is not that of the message.
    let mut wrong = extended(255, &many);
    wrong[3] ^= 1;
    let open = open_with(65_004, 90, ODD, &wrong);
    eventually_or(|| match Peer::greet(&scene.lab, 4, &open, None) {
        Err(error) if error.to_string().contains("message 3 [2, 0") => Ok(()),
        other => Err(format!("{:?}", other.err())),
    });
    scene.unharmed();
}
