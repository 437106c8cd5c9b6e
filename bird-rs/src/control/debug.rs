//! `debug`: changes of protocols' states are told whatever `--log-level` says. What else BIRD traces is refused by name.

use tortie_bgp::speaker::Speaker;

use super::reply::Reply;
use super::words::{self, Which, Word};
use super::{Control, operate};
use crate::engine::Stopped;

/// What BIRD tells of protocols.
const CLASSES: [&str; 6] = ["states", "routes", "filters", "interfaces", "events", "packets"];
/// What can be told of them here.
const TOLD: &str = "states";

/// `WHICH all|off|{ states }`: which protocols, and whether anything is to be told of them.
fn parse(words: &[Word]) -> Result<(Which, bool), String> {
    let (which, mask) = words
        .split_first()
        .ok_or_else(|| format!("syntax error, unexpected END, expecting {}", words::PROTOCOL))?;
    let which = Which::of(which);
    let plain: Option<Vec<&str>> = mask.iter().map(Word::plain).collect();
    let mask = plain.map(|words| words.concat());
    let on = match mask.as_deref() {
        Some("all") => true,
        Some("off") => false,
        Some("") => return Err("syntax error, unexpected END, expecting OFF or '{' or ALL".to_owned()),
        Some(mask) => {
            let classes = mask.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let classes = classes.ok_or("debug: 'all', 'off' or '{ states }' expected behind the protocol")?;
            for class in classes.split(',') {
                if class != TOLD {
                    return Err(untold(class));
                }
            }
            true
        }
        None => return Err("debug: 'all', 'off' or '{ states }' expected behind the protocol".to_owned()),
    };
    Ok((which, on))
}

fn untold(class: &str) -> String {
    if CLASSES.contains(&class) {
        format!("debug: nothing is told of '{class}', only of '{TOLD}'; 'all' is whatever can be told")
    } else {
        format!("debug: '{class}' is unknown, '{TOLD}' expected")
    }
}

impl Control {
    pub(super) async fn debug(&self, words: &[Word]) -> Result<Reply, Stopped> {
        let (which, on) = match parse(words) {
            Ok(parsed) => parsed,
            Err(wrong) => return Ok(Reply::of(9001, &wrong)),
        };
        let names = self.engine.query(Speaker::protocol_names).await?;
        let protocols = match which.select(&names) {
            Ok(protocols) => protocols,
            Err(none) => {
                let names = &self.configurator.config().await.names;
                return Ok(operate::none_meant(&none, names, words::PROTOCOL));
            }
        };
        tracing::info!(?protocols, on, "an operator changes what is told");
        self.engine.act(move |speaker| speaker.trace(&protocols, on)).await?;
        Ok(Reply::of(0, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::split;
    use super::*;

    #[test]
    fn what_may_be_said_behind_debug() {
        let parse = |line: &str| parse(&split(line).unwrap());
        let up = || Which::Named("up".to_owned());
        assert_eq!(parse("up all"), Ok((up(), true)));
        assert_eq!(parse("all off"), Ok((Which::All, false)));
        for line in ["up { states }", "up {states}", "up { states, states }"] {
            assert_eq!(parse(line), Ok((up(), true)), "{line}");
        }
        assert_eq!(
            parse("\"u*\" all").map(|(which, _)| which),
            Ok(Which::Pattern("u*".to_owned()))
        );
        assert!(parse("up { states, packets }").unwrap_err().contains("'packets'"));
        for wrong in [
            "",
            "up",
            "up { }",
            "up { states",
            "up states",
            "up \"all\"",
            "up all off",
            "up { foo }",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
