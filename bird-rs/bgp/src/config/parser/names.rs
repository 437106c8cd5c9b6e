//! What is written on a command line in the terms of a configuration: its constants, functions, filters and tables.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::super::diagnostic::{Checked, Complaint, Sources};
use super::super::lexer::{Lexeme, tokenize};
use super::super::{NoInclude, Policy};
use super::protocol::Draft;
use super::{Parser, Symbol};
use crate::filter::evaluate;
use crate::filter::{Function, Value};
use crate::roa::RoaTables;
use crate::speaker::{ExportStage, ListedNets, ListedTables, Listing};

/// The names that a configuration declares. They are how text is read and not part of what is configured: two
/// configurations that differ in nothing else are equal.
#[derive(Clone, Default)]
pub struct Names(Option<Arc<Declared>>);

struct Declared {
    symbols: HashMap<Arc<str>, Symbol>,
    reach: HashMap<Arc<str>, Vec<Arc<Function>>>,
    functions: Vec<Arc<Function>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl PartialEq for Names {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// `show route`, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct ShowRoute {
    /// What to show.
    pub listing: Listing,
    /// `all`: with attributes.
    pub all: bool,
    /// `stats`: with the number of routes behind each table.
    pub stats: bool,
    /// `count`: only the numbers.
    pub count: bool,
    /// Tables of ROAs that were named. Of others only those that were named are shown beside them.
    pub roa_tables: Vec<Arc<str>>,
}

impl ShowRoute {
    /// Can tables of ROAs be listed, too? To none are they exported, and filters over ROAs are not supported.
    pub fn has_roas(&self) -> bool {
        let listing = &self.listing;
        listing.nets == ListedNets::All && listing.export.is_none() && listing.policy == Policy::All
    }
}

impl Names {
    /// Of a parser that has read all.
    pub(super) fn of(parser: &mut Parser) -> Self {
        let mut symbols = std::mem::take(&mut parser.symbols);
        // A command line declares no protocols: a kilobyte for each that is copied from is not kept.
        let done = Arc::new(Draft::done());
        for symbol in symbols.values_mut() {
            if let Symbol::Protocol(draft) | Symbol::Template(draft) = symbol {
                draft.clone_from(&done);
            }
        }
        Names(Some(Arc::new(Declared {
            symbols,
            reach: std::mem::take(&mut parser.reach),
            functions: parser.config.functions.clone(),
        })))
    }

    /// Every name with what it is in BIRD's words, sorted.
    pub fn list(&self) -> Vec<(Arc<str>, &'static str)> {
        let declared = self.0.iter().flat_map(|declared| &declared.symbols);
        let mut names: Vec<_> = declared.map(|(name, symbol)| (name.clone(), kind(symbol))).collect();
        names.sort();
        names
    }

    /// Is a name declared?
    pub fn declares(&self, name: &str) -> bool {
        self.0
            .as_ref()
            .is_some_and(|declared| declared.symbols.contains_key(name))
    }

    /// The value of an expression, as `eval` prints it. `roas` is what `roa_check` asks.
    ///
    /// # Errors
    /// [`NoValue`].
    pub fn eval(&self, text: &str, roas: &RoaTables) -> Result<String, NoValue> {
        let expr = self
            .read(text, |parser| {
                let expr = parser.expression()?;
                parser.whole(expr)
            })
            .map_err(NoValue::Unreadable)?;
        match evaluate(&expr, Some(roas)).map_err(|error| NoValue::Failed(error.problem.to_string()))? {
            Value::Void => Err(NoValue::Failed("it has no value".to_owned())),
            value => Ok(value.to_string()),
        }
    }

    /// What is behind `show route`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn show_route(&self, text: &str) -> Result<ShowRoute, String> {
        self.read(text, |parser| {
            let show = parser.show_route()?;
            parser.whole(show)
        })
    }

    fn read<T>(&self, text: &str, read: impl FnOnce(&mut Parser) -> Checked<T>) -> Result<T, String> {
        let mut sources = Sources::default();
        let (tokens, complaints) = tokenize("", text, &mut NoInclude, &mut sources);
        if let Some(complaint) = complaints.first() {
            return Err(complaint.message.clone());
        }
        let mut parser = Parser::new(tokens, Vec::new());
        if let Some(declared) = &self.0 {
            parser.symbols.clone_from(&declared.symbols);
            parser.reach.clone_from(&declared.reach);
            parser.config.functions.clone_from(&declared.functions);
        }
        let value = read(&mut parser).map_err(|complaint| complaint.message)?;
        // What is wrong within a block does not end the parser.
        match parser.complaints.into_iter().next() {
            Some(complaint) => Err(complaint.message),
            None => Ok(value),
        }
    }
}

/// An expression gives no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoValue {
    /// It cannot be read: what is wrong, in words.
    Unreadable(String),
    /// Its evaluation fails: why, in words.
    Failed(String),
}

fn kind(symbol: &Symbol) -> &'static str {
    match symbol {
        Symbol::Constant(_) => "constant",
        Symbol::Function(_) => "function",
        Symbol::Filter(_) => "filter",
        Symbol::Protocol(_) => "protocol",
        Symbol::Template(_) => "protocol template",
        Symbol::Table(_) | Symbol::RoaTable(_) => "routing table",
        Symbol::Broken => "undefined",
    }
}

impl Parser {
    /// Nothing may follow.
    fn whole<T>(&self, value: T) -> Checked<T> {
        match self.peek() {
            Lexeme::End => Ok(value),
            _ => Err(self.unexpected("the end of the command")),
        }
    }

    fn show_route(&mut self) -> Checked<ShowRoute> {
        let mut show = ShowRoute {
            listing: Listing {
                tables: ListedTables::Default,
                nets: ListedNets::All,
                protocol: None,
                policy: Policy::All,
                export: None,
                primary: false,
                filtered: false,
            },
            all: false,
            stats: false,
            count: false,
            roa_tables: Vec::new(),
        };
        while !matches!(self.peek(), Lexeme::End) {
            let at = self.here();
            self.show_route_option(&mut show)?;
            if show.listing.filtered && (show.listing.export.is_some() || show.listing.primary) {
                return Err(Complaint::new(at, "Incompatible show route options"));
            }
        }
        self.of_roas(&show)?;
        Ok(show)
    }

    fn show_route_option(&mut self, show: &mut ShowRoute) -> Checked<()> {
        let listing = &mut show.listing;
        let Some(word) = self.word() else {
            let net = self.prefix("show route")?;
            return self.nets(listing, ListedNets::Exactly(net));
        };
        match &*word {
            "where" | "filter" => {
                if listing.policy != Policy::All {
                    return Err(Complaint::new(self.here(), "one filter is enough"));
                }
                listing.policy = self.policy()?;
                return Ok(());
            }
            "for" => {
                self.advance();
                let net = match self.literal_prefix()? {
                    Some(net) => net,
                    None => tortie_net::Prefix::host(self.address("for")?),
                };
                return self.nets(listing, ListedNets::Covering(net));
            }
            _ => {}
        }
        self.advance();
        match &*word {
            "in" => {
                let net = self.prefix("in")?;
                return self.nets(listing, ListedNets::Within(net));
            }
            "table" if self.eat_word("all") => listing.tables = ListedTables::All,
            "table" if matches!(self.known(), Some((_, Symbol::RoaTable(_)))) => {
                show.roa_tables.extend(self.known().map(|(name, _)| name));
                self.advance();
            }
            "table" => {
                let (name, _) = self.table_name()?;
                match &mut listing.tables {
                    ListedTables::Named(names) => names.push(name),
                    tables => *tables = ListedTables::Named(vec![name]),
                }
            }
            "protocol" => listing.protocol = Some(self.name("a protocol's name")?.0),
            "export" => listing.export = Some((self.name("a protocol's name")?.0, ExportStage::Export)),
            "preexport" => listing.export = Some((self.name("a protocol's name")?.0, ExportStage::Preexport)),
            "noexport" => listing.export = Some((self.name("a protocol's name")?.0, ExportStage::Noexport)),
            "all" => show.all = true,
            "primary" => listing.primary = true,
            "filtered" => listing.filtered = true,
            // The last word counts.
            "stats" => (show.stats, show.count) = (true, false),
            "count" => (show.stats, show.count) = (false, true),
            _ => return Err(Complaint::new(self.here(), format!("'{word}' is unknown here"))),
        }
        Ok(())
    }

    /// Of tables of ROAs that are named little may be asked.
    fn of_roas(&self, show: &ShowRoute) -> Checked<()> {
        let Some(table) = show.roa_tables.first() else {
            return Ok(());
        };
        let listing = &show.listing;
        if listing.nets != ListedNets::All {
            let message = format!("Incompatible type of prefix/ip for table {table}");
            return Err(Complaint::new(self.here(), message));
        }
        if listing.export.is_some() {
            return Err(Complaint::new(self.here(), "No valid tables"));
        }
        if listing.policy != Policy::All {
            let message = format!("filters over ROAs, as in table {table}, are not supported");
            return Err(Complaint::new(self.here(), message));
        }
        Ok(())
    }

    fn nets(&self, listing: &mut Listing, nets: ListedNets) -> Checked<()> {
        if listing.nets != ListedNets::All {
            return Err(Complaint::new(self.here(), "Only one prefix expected"));
        }
        listing.nets = nets;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tortie_net::Asn;

    use super::*;
    use crate::config::parse;
    use crate::rib::SourceId;
    use crate::roa::{Roa, RoaSource};

    const TEXT: &str = "define LOCAL = [ 10.0.0.0/8+ ]; define X = 5; ipv4 table second;
        function f(int a) { return a + X; }
        filter ours { if net ~ LOCAL then accept; reject; }";

    fn names() -> Names {
        parse("test", TEXT, &mut NoInclude).unwrap().names
    }

    #[test]
    fn expressions_know_the_configuration() {
        let names = names();
        let eval = |text: &str| names.eval(text, &RoaTables::default());
        for (text, value) in [
            ("1+2", "3"),
            ("X", "5"),
            ("f(X) * 2", "20"),
            ("\"ab\"", "ab"),
            ("10.1.0.0/16 ~ LOCAL", "TRUE"),
        ] {
            assert_eq!(eval(text).as_deref(), Ok(value), "{text}");
        }
        for wrong in ["1 +", "1 2", "nope", "1 / 0", "include \"/etc/passwd\""] {
            assert!(matches!(eval(wrong), Err(NoValue::Unreadable(_))), "{wrong}");
        }
        for failing in ["net", "f(bgp_med)", "5 / f(0 - X)"] {
            assert!(matches!(eval(failing), Err(NoValue::Failed(_))), "{failing}");
        }
        assert!(names.declares("f") && !names.declares("g"));
    }

    #[test]
    fn roas_are_those_of_the_tables() {
        let text = "roa4 table r4; function judged(int a) { return roa_check(r4, 10.1.0.0/16, a); }";
        let names = parse("test", text, &mut NoInclude).unwrap().names;
        let mut tables = RoaTables::default();
        tables.provide(&"r4".into(), true);
        let of = RoaSource {
            source: SourceId(0),
            preference: 100,
            since: 0,
        };
        let roa = Roa::new("10.0.0.0/8".parse().unwrap(), 16, Asn(65000)).unwrap();
        tables.set("r4", of, &Arc::new([roa].into_iter().collect()));
        for (text, value) in [
            ("roa_check(r4, 10.1.0.0/16, 65000) = ROA_VALID", "TRUE"),
            ("judged(65001) = ROA_INVALID", "TRUE"),
            ("roa_check(r4, 11.0.0.0/8, 65000) = ROA_UNKNOWN", "TRUE"),
            ("roa_check(r4, 2001:db8::/32, 65000) = ROA_UNKNOWN", "TRUE"),
        ] {
            assert_eq!(names.eval(text, &tables).as_deref(), Ok(value), "{text}");
        }
        // Of which route?
        for failing in ["roa_check(r4)", "roa_check(r4, net, 65000)"] {
            assert!(
                matches!(names.eval(failing, &tables), Err(NoValue::Failed(_))),
                "{failing}"
            );
        }
        // A constant of a file stands before there are ROAs.
        let constant = format!("{text} define X = roa_check(r4, 10.1.0.0/16, 65000);");
        assert!(parse("test", &constant, &mut NoInclude).is_err());
    }

    #[test]
    fn what_is_wrong_within_a_block_is_said() {
        let wrong = names().show_route("filter { nope; accept; }").unwrap_err();
        assert!(wrong.contains("nope"), "{wrong}");
        assert!(
            names()
                .show_route("filter { if net.len > \"a\" then accept; }")
                .is_err()
        );
    }

    #[test]
    fn names_are_listed() {
        let list = names().list();
        let has = |name: &str, kind: &str| list.contains(&(name.into(), kind));
        assert!(
            has("X", "constant") && has("f", "function") && has("ours", "filter") && has("second", "routing table")
        );
    }

    #[test]
    fn options_may_come_in_any_order() {
        let names = names();
        let show = names
            .show_route("where net ~ LOCAL all table second table master4 count")
            .unwrap();
        assert!(show.all && show.count && matches!(show.listing.policy, Policy::Filter(_)));
        assert_eq!(
            show.listing.tables,
            ListedTables::Named(vec!["second".into(), "master4".into()])
        );
        let show = names.show_route("10.1.0.0/16 filter ours noexport p1 primary").unwrap();
        assert_eq!(show.listing.nets, ListedNets::Exactly("10.1.0.0/16".parse().unwrap()));
        assert_eq!(show.listing.export, Some(("p1".into(), ExportStage::Noexport)));
        let show = names.show_route("for 10.1.2.3 filter { accept; } protocol p1").unwrap();
        assert_eq!(show.listing.nets, ListedNets::Covering("10.1.2.3/32".parse().unwrap()));
        for wrong in [
            "table nope",
            "where nope",
            "where 5",
            "10.0.0.0",
            "for",
            "10.1.0.0/16 in 10.0.0.0/8",
            "export p1 filtered",
            "primary filtered",
            "filter ours where true",
            "foo",
        ] {
            assert!(names.show_route(wrong).is_err(), "{wrong}");
        }
    }
}
