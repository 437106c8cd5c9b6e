//! Programs as trees of text, and how they are made smaller.

use std::fmt;

/// The types of the language that the generator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Ip,
    Prefix,
    Pair,
    Quad,
    Ec,
    Lc,
    Text,
    Path,
    Mask,
    Clist,
    Eclist,
    Lclist,
    Source,
    Origin,
    Dest,
    NetKind,
    Roa,
    Ints,
    Pairs,
    Ips,
    Ecs,
    Lcs,
    Prefixes,
}

/// The types of variables, the more usual ones twice.
pub(super) const VARIABLES: [Type; 20] = [
    Type::Bool,
    Type::Int,
    Type::Int,
    Type::Ip,
    Type::Prefix,
    Type::Pair,
    Type::Quad,
    Type::Ec,
    Type::Lc,
    Type::Text,
    Type::Path,
    Type::Mask,
    Type::Clist,
    Type::Eclist,
    Type::Lclist,
    Type::Ints,
    Type::Pairs,
    Type::Ips,
    Type::Lcs,
    Type::Prefixes,
];

impl Type {
    /// As it is declared; none for what has no variables.
    pub(super) fn keyword(self) -> Option<&'static str> {
        Some(match self {
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Ip => "ip",
            Type::Prefix => "prefix",
            Type::Pair => "pair",
            Type::Quad => "quad",
            Type::Ec => "ec",
            Type::Lc => "lc",
            Type::Text => "string",
            Type::Path => "bgppath",
            Type::Mask => "bgpmask",
            Type::Clist => "clist",
            Type::Eclist => "eclist",
            Type::Lclist => "lclist",
            Type::Ints => "int set",
            Type::Pairs => "pair set",
            Type::Ips => "ip set",
            Type::Ecs => "ec set",
            Type::Lcs => "lc set",
            Type::Prefixes => "prefix set",
            Type::Source | Type::Origin | Type::Dest | Type::NetKind | Type::Roa => return None,
        })
    }

    /// The smallest thing of this type, whose evaluation cannot fail.
    fn least(self) -> &'static str {
        match self {
            Type::Bool => "true",
            Type::Int => "1",
            Type::Ip => "10.0.0.1",
            Type::Prefix => "10.0.0.0/8",
            Type::Pair => "(1,1)",
            Type::Quad => "1.1.1.1",
            Type::Ec => "(rt,1,1)",
            Type::Lc => "(1,1,1)",
            Type::Text => "\"\"",
            Type::Path => "+empty+",
            Type::Mask => "[= * =]",
            Type::Clist => "-empty-",
            Type::Eclist => "--empty--",
            Type::Lclist => "---empty---",
            Type::Source => "RTS_BGP",
            Type::Origin => "ORIGIN_EGP",
            Type::Dest => "RTD_BLACKHOLE",
            Type::NetKind => "NET_IP4",
            Type::Roa => "ROA_VALID",
            Type::Ints => "[1]",
            Type::Pairs => "[(1,1)]",
            Type::Ips => "[10.0.0.1]",
            Type::Ecs => "[(rt,1,1)]",
            Type::Lcs => "[(1,1,1)]",
            Type::Prefixes => "[10.0.0.0/8]",
        }
    }
}

/// What a part of a program is: what may stand in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Only itself.
    Fixed,
    /// An expression.
    Value(Type),
    /// A statement that may go.
    Statement,
    /// `TYPE NAME = ..;` or a function: it may go when its name is nowhere else.
    Declaration(u32),
}

/// A part of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) sort: Sort,
    /// With a `#` for each child.
    text: String,
    children: Vec<Node>,
}

impl Node {
    pub(super) fn new(sort: Sort, text: impl Into<String>, children: Vec<Node>) -> Self {
        let text = text.into();
        assert_eq!(text.matches('#').count(), children.len(), "{text}");
        Node { sort, text, children }
    }

    pub(super) fn leaf(sort: Sort, text: impl Into<String>) -> Self {
        Node::new(sort, text, Vec::new())
    }

    /// Programs that are smaller by one step, the smallest first, each well typed as this one is.
    pub(super) fn smaller(&self) -> Vec<Node> {
        let mut all = Vec::new();
        let whole = self.to_string();
        self.each_smaller(&whole, &mut |node| all.push(node));
        all.sort_by_key(|node| node.to_string().len());
        all.retain(|node| node.to_string().len() < whole.len());
        all.dedup();
        all
    }

    fn each_smaller(&self, whole: &str, found: &mut dyn FnMut(Node)) {
        match self.sort {
            Sort::Fixed => {}
            Sort::Value(ty) => {
                found(Node::leaf(self.sort, ty.least()));
                self.inside(self.sort, found);
            }
            Sort::Statement => {
                found(Node::leaf(Sort::Fixed, "{ }"));
                self.inside(Sort::Statement, found);
            }
            Sort::Declaration(number) => {
                if whole.matches(&name(number)).count() == self.to_string().matches(&name(number)).count() {
                    found(Node::leaf(Sort::Fixed, ""));
                }
            }
        }
        for (at, child) in self.children.iter().enumerate() {
            child.each_smaller(whole, &mut |smaller| {
                let mut copy = self.clone();
                copy.children[at] = smaller;
                found(copy);
            });
        }
    }

    /// What is inside and might stand here alone.
    fn inside(&self, sort: Sort, found: &mut dyn FnMut(Node)) {
        let declared = declared(&self.to_string());
        self.visit(&mut |child| {
            let text = child.to_string();
            let own = self::declared(&text);
            let needs = |name: &&String| text.contains(*name) && !own.contains(name);
            if child.sort == sort && !declared.iter().any(|name| needs(&name)) {
                found(child.clone());
            }
        });
    }

    fn visit(&self, found: &mut dyn FnMut(&Node)) {
        for child in &self.children {
            found(child);
            child.visit(found);
        }
    }
}

/// The names that a text declares: what is behind a type.
fn declared(text: &str) -> Vec<String> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '@')
        .collect();
    let is_type = |word: &str| {
        VARIABLES
            .iter()
            .filter_map(|ty| ty.keyword())
            .any(|keyword| keyword.ends_with(word))
    };
    let pairs = words
        .windows(2)
        .filter(|pair| !pair[0].is_empty() && is_type(pair[0]) && pair[1].starts_with("x@"));
    pairs.map(|pair| pair[1].to_owned()).collect()
}

/// The name of a variable or function. `@` is what tells programs in one file apart.
pub(super) fn name(number: u32) -> String {
    format!("x@_{number}_")
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.text.split('#');
        f.write_str(parts.next().unwrap_or_default())?;
        for (child, part) in self.children.iter().zip(parts) {
            write!(f, "{child}{part}")?;
        }
        Ok(())
    }
}

#[test]
fn smaller_programs_keep_what_they_need() {
    let value = |text: &str| Node::leaf(Sort::Value(Type::Int), text);
    let declared = Node::new(
        Sort::Declaration(1),
        format!("int {} = #;", name(1)),
        vec![value("1 + 2")],
    );
    let sum = Node::new(Sort::Value(Type::Int), "# + #", vec![value(&name(1)), value("7")]);
    let used = Node::new(Sort::Statement, "bgp_med = #;", vec![sum]);
    let program = Node::new(Sort::Fixed, "##", vec![declared, used]);
    let smaller: Vec<String> = program.smaller().iter().map(ToString::to_string).collect();
    assert!(
        smaller.contains(&"int x@_1_ = 1;bgp_med = x@_1_ + 7;".to_owned()),
        "{smaller:?}"
    );
    assert!(
        smaller.contains(&"int x@_1_ = 1 + 2;bgp_med = 7;".to_owned()),
        "{smaller:?}"
    );
    assert!(smaller.contains(&"int x@_1_ = 1 + 2;{ }".to_owned()), "{smaller:?}");
    assert!(
        smaller.iter().all(|text| text.contains("int x@_1_")),
        "it is still used in each: {smaller:?}"
    );
}
