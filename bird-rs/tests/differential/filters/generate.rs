//! Well-typed filters at random.
//!
//! What the reference (docs/bird-rs-configuration.md, "Where the same file means something else") names is left out:
//!
//! | left out | because |
//! |---|---|
//! | values of different types compared, `<` on strings, `return`s of different types, mixed sets | bird-rs refuses them when it reads the file |
//! | constants whose operation fails (`1 / 0`, `(70000,1)`) | the same; what fails is made of attributes and variables |
//! | ranges that overlap in one set | BIRD misses members; each set's members are apart |
//! | variables without a value | BIRD fails where bird-rs has none |
//! | `for`, where there are variables in inner blocks | BIRD may damage the loop's variable, and others after it |
//! | changing a list or path inside a `for` over one | BIRD may crash |
//! | recursion | BIRD has no bound |
//! | an arm of a `case` of which nothing is left once constant conditions are decided | BIRD crashes |
//! | `defined()` of lists and paths; lists compared or printed | BIRD keeps empty lists, and has them in the order of their making |
//! | the order of a list's members in a `for` | the same: what is computed there is a sum |
//! | `bgp_origin = ORIGIN_IGP` | of a route that is not BGP's it leaves no trace in bird-rs |
//! | `preference` over 65535 | bird-rs rejects the route |
//! | `roa_check(TABLE)` of an empty path | one that a static route was given is none in bird-rs |

use std::fmt::Write as _;

use super::random::Random;
use super::routes::{ADDRESSES, HALVES, NUMBERS};
use super::tree::{Node, Sort, Type, VARIABLES, name};

/// An attribute of a type. The others of the language are read only, or of lists.
const READ: [(Type, &str); 25] = [
    (Type::Int, "preference"),
    (Type::Int, "bgp_med"),
    (Type::Int, "bgp_local_pref"),
    (Type::Int, "bgp_otc"),
    (Type::Int, "net.len"),
    (Type::Int, "bgp_path.len"),
    (Type::Int, "bgp_path.first"),
    (Type::Int, "bgp_path.last"),
    (Type::Int, "krt_metric"),
    (Type::Ip, "from"),
    (Type::Ip, "gw"),
    (Type::Ip, "bgp_next_hop"),
    (Type::Ip, "net.ip"),
    (Type::Prefix, "net"),
    (Type::Quad, "bgp_originator_id"),
    (Type::Text, "proto"),
    (Type::Path, "bgp_path"),
    (Type::Clist, "bgp_community"),
    (Type::Eclist, "bgp_ext_community"),
    (Type::Lclist, "bgp_large_community"),
    (Type::Source, "source"),
    (Type::Origin, "bgp_origin"),
    (Type::Dest, "dest"),
    (Type::NetKind, "net.type"),
    (Type::Roa, "roa_check(r4, net, bgp_path.last)"),
];

/// The enumerations.
const ENUMS: [Type; 5] = [Type::Source, Type::Origin, Type::Dest, Type::NetKind, Type::Roa];

/// Members of sets that have no literals of their own here.
const ASKED: [&str; 8] = [
    "source ~ [RTS_BGP, RTS_OSPF..RTS_OSPF_EXT2]",
    "bgp_origin ~ [ORIGIN_IGP..ORIGIN_EGP]",
    "dest !~ [RTD_UNICAST, RTD_UNREACHABLE..RTD_PROHIBIT]",
    "bgp_path.len > 0 && roa_check(r4) ~ [ROA_VALID, ROA_UNKNOWN]",
    "net.type ~ [NET_IP6, NET_VPN4]",
    "1.2.3.4 ~ bgp_cluster_list",
    "bgp_cluster_list ~ [1.2.3.0..1.2.3.4]",
    "bgp_originator_id ~ [1.2.3.4, 10.0.0.0..10.0.0.9]",
];

/// What may be compared with `=`, and with `<` unless it is text or a path.
const COMPARABLE: [Type; 10] = [
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
];

/// What `~` takes on its sides.
const MATCHES: [(Type, Type); 20] = [
    (Type::Int, Type::Ints),
    (Type::Path, Type::Ints),
    (Type::Pair, Type::Pairs),
    (Type::Clist, Type::Pairs),
    (Type::Ec, Type::Ecs),
    (Type::Eclist, Type::Ecs),
    (Type::Lc, Type::Lcs),
    (Type::Lclist, Type::Lcs),
    (Type::Ip, Type::Ips),
    (Type::Ip, Type::Prefix),
    (Type::Prefix, Type::Prefix),
    (Type::Prefix, Type::Prefixes),
    (Type::Prefix, Type::Prefixes),
    (Type::Text, Type::Text),
    (Type::Int, Type::Path),
    (Type::Pair, Type::Clist),
    (Type::Ec, Type::Eclist),
    (Type::Lc, Type::Lclist),
    (Type::Path, Type::Mask),
    (Type::Path, Type::Mask),
];

struct Function {
    number: u32,
    parameters: Vec<Type>,
    result: Type,
}

struct Generator<'r> {
    random: &'r mut Random,
    /// What can be seen here, the innermost last.
    scope: Vec<(u32, Type)>,
    functions: Vec<Function>,
    names: u32,
    /// In a `for`: nothing that it may walk over can be changed.
    walking: bool,
    /// This function has variables in inner blocks, and no `for`.
    declares: bool,
    /// The result of the function that is being made.
    result: Option<Type>,
}

/// Functions and a filter called `f@`.
pub(super) fn program(random: &mut Random) -> Node {
    let mut generator = Generator {
        random,
        scope: Vec::new(),
        functions: Vec::new(),
        names: 0,
        walking: false,
        declares: false,
        result: None,
    };
    let mut all = Vec::new();
    for _ in 0..generator.random.below(3) {
        all.push(generator.function());
    }
    all.push(generator.filter());
    let text = "#\n".repeat(all.len());
    Node::new(Sort::Fixed, text, all)
}

fn value(ty: Type, text: &str, children: Vec<Node>) -> Node {
    Node::new(Sort::Value(ty), text, children)
}

fn statement(text: &str, children: Vec<Node>) -> Node {
    Node::new(Sort::Statement, text, children)
}

impl Generator<'_> {
    fn fresh(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    // === Programs ===

    fn function(&mut self) -> Node {
        let number = self.fresh();
        let parameters: Vec<Type> = (0..self.random.below(3))
            .map(|_| self.random.pick(&VARIABLES))
            .collect();
        let result = self.random.pick(&[
            Type::Bool,
            Type::Int,
            Type::Int,
            Type::Pair,
            Type::Path,
            Type::Clist,
            Type::Ip,
        ]);
        self.scope.clear();
        self.declares = self.random.one_in(2);
        self.result = Some(result);
        let mut head = format!("function {}(", name(number));
        for (at, ty) in parameters.iter().enumerate() {
            let parameter = self.fresh();
            let separator = if at == 0 { "" } else { "; " };
            let _ = write!(head, "{separator}{} {}", ty.keyword().unwrap(), name(parameter));
            self.scope.push((parameter, *ty));
        }
        let (early, mut body) = self.early();
        body.extend(self.declarations(2));
        body.extend(self.statements(3, 2));
        let result_value = self.expression(result, 2);
        body.push(Node::new(Sort::Fixed, "return #;", vec![result_value]));
        self.result = None;
        self.functions.push(Function {
            number,
            parameters,
            result,
        });
        let text = format!("{head}) {early}{{\n{}}}", "  #\n".repeat(body.len()));
        Node::new(Sort::Declaration(number), text, body)
    }

    fn filter(&mut self) -> Node {
        self.scope.clear();
        self.declares = self.random.one_in(2);
        let (early, mut body) = self.early();
        body.extend(self.declarations(4));
        body.extend(self.statements(6, 3));
        if !self.random.one_in(5) {
            body.extend(self.observations());
        }
        if !self.random.one_in(8) {
            body.push(statement(
                if self.random.one_in(6) { "reject;" } else { "accept;" },
                vec![],
            ));
        }
        let text = format!("filter f@ {early}{{\n{}}}", "  #\n".repeat(body.len()));
        Node::new(Sort::Fixed, text, body)
    }

    /// What variables hold becomes an attribute, so that it is seen.
    fn observations(&mut self) -> Vec<Node> {
        let scope = self.scope.clone();
        let seen = scope.iter().map(|(number, ty)| {
            let x = name(*number);
            let lc = |what: &str| format!("bgp_large_community.add(({number},77,{what}));");
            let text = match ty {
                Type::Bool => format!("if {x} then {}", lc("1")),
                Type::Int => lc(&x),
                Type::Ip => format!("if {x} ~ [10.0.0.0..10.1.255.255, 1.2.3.4] then {}", lc("2")),
                Type::Prefix => lc(&format!("{x}.len")),
                Type::Pair => format!("bgp_community.add({x});"),
                Type::Quad => format!("bgp_cluster_list.add({x});"),
                Type::Ec => format!("bgp_ext_community.add({x});"),
                Type::Lc => format!("bgp_large_community.add({x});"),
                Type::Text => format!("if {x} ~ \"*1*\" then {}", lc("3")),
                Type::Path => lc(&format!("{x}.last")),
                Type::Mask => format!("if bgp_path ~ {x} then {}", lc("4")),
                Type::Clist => format!("bgp_community.add({x});"),
                Type::Eclist => format!("bgp_ext_community.add({x});"),
                Type::Lclist => format!("bgp_large_community.add({x});"),
                Type::Ints => format!("bgp_path.delete({x});"),
                Type::Pairs => format!("bgp_community.delete({x});"),
                Type::Ips => format!("if net.ip ~ {x} then {}", lc("5")),
                Type::Ecs => format!("bgp_ext_community.delete({x});"),
                Type::Lcs => format!("bgp_large_community.delete({x});"),
                Type::Prefixes => format!("if net ~ {x} then {}", lc("6")),
                Type::Source | Type::Origin | Type::Dest | Type::NetKind | Type::Roa => String::from("{ }"),
            };
            statement(&text, vec![])
        });
        seen.collect()
    }

    /// Variables as older files declare them, before the body, and what gives each its first value.
    fn early(&mut self) -> (String, Vec<Node>) {
        let (mut text, mut body) = (String::new(), Vec::new());
        if self.random.one_in(3) {
            for _ in 0..=self.random.below(2) {
                let ty = self.random.pick(&VARIABLES);
                let number = self.fresh();
                let _ = write!(text, "{} {}; ", ty.keyword().unwrap(), name(number));
                let first = self.expression(ty, 1);
                body.push(Node::new(Sort::Fixed, format!("{} = #;", name(number)), vec![first]));
                self.scope.push((number, ty));
            }
        }
        (text, body)
    }

    fn declarations(&mut self, most: u32) -> Vec<Node> {
        let count = self.random.below(most + 1);
        (0..count).map(|_| self.declaration()).collect()
    }

    fn declaration(&mut self) -> Node {
        let ty = self.random.pick(&VARIABLES);
        let init = self.expression(ty, 2);
        let number = self.fresh();
        self.scope.push((number, ty));
        let text = format!("{} {} = #;", ty.keyword().unwrap(), name(number));
        Node::new(Sort::Declaration(number), text, vec![init])
    }

    // === Statements ===

    fn statements(&mut self, most: u32, depth: u32) -> Vec<Node> {
        let count = 1 + self.random.below(most);
        (0..count).map(|_| self.statement(depth)).collect()
    }

    fn block(&mut self, depth: u32) -> Node {
        let before = self.scope.len();
        let mut body = Vec::new();
        if self.declares && self.random.one_in(2) {
            body = self.declarations(2);
        }
        body.extend(self.statements(2, depth));
        self.scope.truncate(before);
        Node::new(Sort::Statement, format!("{{ {}}}", "# ".repeat(body.len())), body)
    }

    fn statement(&mut self, depth: u32) -> Node {
        let nested = depth > 0;
        match self.random.below(20) {
            0..4 => self.assignment(),
            4..10 => self.change(),
            10..14 if nested => {
                let condition = self.expression(Type::Bool, 3);
                let then = self.block(depth - 1);
                if self.random.one_in(2) {
                    statement("if # then #", vec![condition, then])
                } else {
                    let otherwise = self.block(depth - 1);
                    statement("if # then # else #", vec![condition, then, otherwise])
                }
            }
            14 | 15 if nested => self.case(depth - 1),
            16 | 17 if nested && !self.declares => self.each(depth - 1),
            18 => self.decision(),
            19 if self.random.one_in(3) => self.printed(),
            19 => self.call_for_itself(),
            _ => self.change(),
        }
    }

    /// What is printed is not compared, but has to be evaluated.
    fn printed(&mut self) -> Node {
        let ty = self.random.pick(&VARIABLES);
        let text = self.random.pick(&["print \"x\", #;", "printn #;"]);
        let operand = self.expression(ty, 2);
        statement(text, vec![operand])
    }

    fn decision(&mut self) -> Node {
        let condition = self.expression(Type::Bool, 3);
        let text = match self.result {
            Some(result) if !self.random.one_in(5) => {
                let value = self.expression(result, 2);
                return statement("if # then return #;", vec![condition, value]);
            }
            _ if self.random.one_in(3) => "if # then reject;",
            _ => "if # then accept;",
        };
        statement(text, vec![condition])
    }

    fn call_for_itself(&mut self) -> Node {
        match self.random.below(u32::try_from(self.functions.len()).unwrap() + 1) {
            0 => self.change(),
            at => {
                let mut call = self.call(at as usize - 1);
                call.sort = Sort::Fixed;
                statement("#;", vec![call])
            }
        }
    }

    fn call(&mut self, at: usize) -> Node {
        let function = &self.functions[at];
        let (number, result, parameters) = (function.number, function.result, function.parameters.clone());
        let arguments: Vec<Node> = parameters.into_iter().map(|ty| self.expression(ty, 1)).collect();
        let places = vec!["#"; arguments.len()].join(", ");
        value(result, &format!("{}({places})", name(number)), arguments)
    }

    fn is_list(ty: Type) -> bool {
        matches!(ty, Type::Path | Type::Clist | Type::Eclist | Type::Lclist)
    }

    fn assignment(&mut self) -> Node {
        let walking = self.walking;
        let free: Vec<(u32, Type)> = self
            .scope
            .iter()
            .copied()
            .filter(|(_, ty)| !walking || !Self::is_list(*ty))
            .collect();
        if free.is_empty() {
            return self.change();
        }
        let (number, ty) = self.random.pick(&free);
        let value = self.expression(ty, 3);
        statement(&format!("{} = #;", name(number)), vec![value])
    }

    /// Of an attribute.
    fn change(&mut self) -> Node {
        let (ty, text) = match self.random.below(if self.walking { 6 } else { 22 }) {
            0 => (Type::Int, "bgp_med = #;"),
            1 => (Type::Int, "bgp_local_pref = #;"),
            2 => return self.set_preference(),
            3 => (Type::Quad, "bgp_originator_id = #;"),
            4 => return self.unset(),
            5 => return self.set_one_of(),
            6 | 7 => (Type::Int, "bgp_path.prepend(#);"),
            8 => (Type::Int, "bgp_path.delete(#);"),
            9 => (
                Type::Ints,
                self.random.pick(&["bgp_path.delete(#);", "bgp_path.filter(#);"]),
            ),
            10 => (Type::Path, "bgp_path = #;"),
            11 => (
                Type::Pair,
                self.random.pick(&["bgp_community.add(#);", "bgp_community.delete(#);"]),
            ),
            12 => (
                Type::Pairs,
                self.random
                    .pick(&["bgp_community.delete(#);", "bgp_community.filter(#);"]),
            ),
            13 => (
                Type::Clist,
                self.random.pick(&[
                    "bgp_community = #;",
                    "bgp_community.add(#);",
                    "bgp_community.filter(#);",
                ]),
            ),
            14 => (
                Type::Ec,
                self.random
                    .pick(&["bgp_ext_community.add(#);", "bgp_ext_community.delete(#);"]),
            ),
            15 => (
                Type::Ecs,
                self.random
                    .pick(&["bgp_ext_community.delete(#);", "bgp_ext_community.filter(#);"]),
            ),
            16 => (
                Type::Eclist,
                self.random.pick(&[
                    "bgp_ext_community = #;",
                    "bgp_ext_community.add(#);",
                    "bgp_ext_community.delete(#);",
                ]),
            ),
            17 => (
                Type::Lc,
                self.random
                    .pick(&["bgp_large_community.add(#);", "bgp_large_community.delete(#);"]),
            ),
            18 => (
                Type::Lcs,
                self.random
                    .pick(&["bgp_large_community.delete(#);", "bgp_large_community.filter(#);"]),
            ),
            19 => (
                Type::Lclist,
                self.random.pick(&[
                    "bgp_large_community = #;",
                    "bgp_large_community.add(#);",
                    "bgp_large_community.delete(#);",
                ]),
            ),
            20 => (
                Type::Quad,
                self.random
                    .pick(&["bgp_cluster_list.add(#);", "bgp_cluster_list.delete(#);"]),
            ),
            _ => {
                let list = self
                    .random
                    .pick(&["path", "community", "ext_community", "large_community"]);
                return statement(&format!("bgp_{list}.empty;"), vec![]);
            }
        };
        let operand = self.expression(ty, 3);
        statement(text, vec![operand])
    }

    fn set_preference(&mut self) -> Node {
        let number = self
            .random
            .pick(&["0", "7", "200", "65535", "net.len", "bgp_path.len * 100"]);
        statement(&format!("preference = {number};"), vec![])
    }

    fn unset(&mut self) -> Node {
        const SCALARS: [&str; 5] = [
            "bgp_med",
            "bgp_local_pref",
            "bgp_otc",
            "bgp_originator_id",
            "krt_metric",
        ];
        let attribute = self.random.pick(&SCALARS);
        statement(&format!("unset({attribute});"), vec![])
    }

    fn set_one_of(&mut self) -> Node {
        const CONSTANTS: [&str; 14] = [
            "bgp_origin = ORIGIN_EGP;",
            "bgp_origin = ORIGIN_INCOMPLETE;",
            "dest = RTD_BLACKHOLE;",
            "dest = RTD_UNREACHABLE;",
            "dest = RTD_PROHIBIT;",
            "bgp_next_hop = 10.77.0.7;",
            "bgp_next_hop = 2001:db8::7;",
            "bgp_otc = 65010;",
            "krt_metric = 5;",
            "krt_source = 7;",
            "krt_prefsrc = 10.77.0.7;",
            "from = 10.77.0.9;",
            "bgp_cluster_list.filter([1.2.3.0..1.2.3.4]);",
            "bgp_cluster_list.delete([10.0.0.1]);",
        ];
        statement(self.random.pick(&CONSTANTS), vec![])
    }

    fn case(&mut self, depth: u32) -> Node {
        let ty = self.random.pick(&[
            Type::Int,
            Type::Int,
            Type::Pair,
            Type::Ip,
            Type::Source,
            Type::Origin,
            Type::Dest,
            Type::NetKind,
            Type::Roa,
            Type::Quad,
            Type::Lc,
            Type::Ec,
        ]);
        let subject = self.expression(ty, 2);
        let mut text = String::from("case # { ");
        let mut children = vec![subject];
        let labels = self.members(ty, 4);
        let size = 1 + self.random.below(2) as usize;
        for labels in labels.chunks(size) {
            let _ = write!(text, "{}: # ", labels.join(", "));
            children.push(self.arm(depth));
        }
        if self.random.one_in(2) {
            text += "else: # ";
            children.push(self.arm(depth));
        }
        statement(&format!("{text}}}"), children)
    }

    fn arm(&mut self, depth: u32) -> Node {
        Node::new(Sort::Fixed, "{ unset(krt_metric); # }", vec![self.block(depth)])
    }

    fn each(&mut self, depth: u32) -> Node {
        let (list, item) = self.random.pick(&[
            (Type::Path, Type::Int),
            (Type::Path, Type::Int),
            (Type::Clist, Type::Pair),
            (Type::Eclist, Type::Ec),
            (Type::Lclist, Type::Lc),
        ]);
        let walked = self.expression(list, 1);
        let number = self.fresh();
        let head = format!("for {} {} in # do", item.keyword().unwrap(), name(number));
        let was = std::mem::replace(&mut self.walking, true);
        let body = if list == Type::Path {
            self.scope.push((number, item));
            let body = self.block(depth);
            self.scope.pop();
            body
        } else {
            self.sum(number, item)
        };
        self.walking = was;
        statement(&format!("{head} #"), vec![walked, body])
    }

    /// What comes of a list's members in any order.
    fn sum(&mut self, number: u32, item: Type) -> Node {
        let ints: Vec<u32> = self
            .scope
            .iter()
            .filter(|(_, ty)| *ty == Type::Int)
            .map(|(number, _)| *number)
            .collect();
        let Some(total) = ints.first().map(|_| self.random.pick(&ints)) else {
            return Node::leaf(Sort::Fixed, "{ }");
        };
        let scope = std::mem::replace(&mut self.scope, vec![(number, item)]);
        let condition = self.expression(Type::Bool, 2);
        let term = self.expression(Type::Int, 2);
        self.scope = scope;
        let text = format!("{{ if # then {total} = {total} + #; }}", total = name(total));
        statement(&text, vec![condition, term])
    }

    // === Expressions ===

    fn expression(&mut self, ty: Type, depth: u32) -> Node {
        if depth == 0 || self.random.one_in(4) {
            return self.leaf(ty);
        }
        if self.random.one_in(6) {
            let fits = |f: &&Function| f.result == ty;
            let calls: Vec<u32> = self.functions.iter().filter(fits).map(|f| f.number).collect();
            if !calls.is_empty() {
                let wanted = self.random.pick(&calls);
                let at = self.functions.iter().position(|f| f.number == wanted).unwrap();
                return self.call(at);
            }
        }
        match ty {
            Type::Bool => self.condition(depth - 1),
            Type::Int => self.number(depth - 1),
            Type::Ip if self.random.one_in(2) => {
                let (operand, length) = (self.expression(Type::Ip, depth - 1), self.random.pick(&[8, 16, 24, 32]));
                value(ty, &format!("(#).mask({length})"), vec![operand])
            }
            Type::Ip => self.of(ty, "(#).ip", &[Type::Prefix], depth),
            Type::Pair if self.random.one_in(2) => self.extreme(ty, Type::Clist, depth),
            Type::Pair => {
                let number = self.moving();
                value(ty, self.random.pick(&["(#, 5)", "(1, #)"]), vec![number])
            }
            Type::Ec if self.random.one_in(2) => self.extreme(ty, Type::Eclist, depth),
            Type::Ec => {
                let number = self.expression(Type::Int, depth - 1);
                value(
                    ty,
                    self.random
                        .pick(&["(rt, 1, #)", "(ro, 65010, #)", "(generic, 0x20001, #)"]),
                    vec![number],
                )
            }
            Type::Lc if self.random.one_in(2) => self.extreme(ty, Type::Lclist, depth),
            Type::Lc => self.of(ty, "(#, #, 1)", &[Type::Int, Type::Int], depth),
            Type::Text => {
                let of = self.random.pick(&[
                    Type::Int,
                    Type::Ip,
                    Type::Prefix,
                    Type::Pair,
                    Type::Path,
                    Type::Lc,
                    Type::Ec,
                ]);
                self.of(ty, "format(#)", &[of], depth)
            }
            Type::Path => match self.random.below(3) {
                0 => self.of(ty, "prepend(#, #)", &[Type::Path, Type::Int], depth),
                1 => {
                    let what = self.random.pick(&[Type::Int, Type::Ints]);
                    self.of(ty, "delete(#, #)", &[Type::Path, what], depth)
                }
                _ => self.of(ty, "filter(#, #)", &[Type::Path, Type::Ints], depth),
            },
            Type::Clist => self.edited(ty, Type::Pair, Type::Pairs, depth),
            Type::Eclist => self.edited(ty, Type::Ec, Type::Ecs, depth),
            Type::Lclist => self.edited(ty, Type::Lc, Type::Lcs, depth),
            Type::Roa => {
                let text = self.random.pick(&["roa_check(r4, #, #)", "roa_check(r6, #, #)"]);
                self.of(ty, text, &[Type::Prefix, Type::Int], depth)
            }
            _ => self.leaf(ty),
        }
    }

    fn extreme(&mut self, ty: Type, list: Type, depth: u32) -> Node {
        let text = self.random.pick(&["(#).min", "(#).max"]);
        self.of(ty, text, &[list], depth)
    }

    fn of(&mut self, ty: Type, text: &str, parts: &[Type], depth: u32) -> Node {
        let children = parts.iter().map(|part| self.expression(*part, depth - 1)).collect();
        value(ty, text, children)
    }

    fn edited(&mut self, list: Type, member: Type, set: Type, depth: u32) -> Node {
        let (text, what) = self.random.pick(&[
            ("add(#, #)", member),
            ("add(#, #)", list),
            ("delete(#, #)", member),
            ("delete(#, #)", set),
            ("delete(#, #)", list),
            ("filter(#, #)", set),
            ("filter(#, #)", list),
        ]);
        self.of(list, text, &[list, what], depth)
    }

    /// A number that is not known before a route is there.
    fn moving(&mut self) -> Node {
        let numbers: Vec<&str> = READ
            .iter()
            .filter(|(ty, _)| *ty == Type::Int)
            .map(|(_, text)| *text)
            .collect();
        value(Type::Int, self.random.pick(&numbers), vec![])
    }

    fn number(&mut self, depth: u32) -> Node {
        match self.random.below(11) {
            0 | 1 => self.of(Type::Int, "(# + #)", &[Type::Int, Type::Int], depth + 1),
            2 => self.of(Type::Int, "(# - #)", &[Type::Int, Type::Int], depth + 1),
            3 => self.of(Type::Int, "(# * #)", &[Type::Int, Type::Int], depth + 1),
            4 => {
                let (left, right) = (self.expression(Type::Int, depth), self.moving());
                value(Type::Int, "(# / #)", vec![left, right])
            }
            5 | 6 => {
                let of = self
                    .random
                    .pick(&[Type::Prefix, Type::Path, Type::Clist, Type::Eclist, Type::Lclist]);
                self.of(Type::Int, "(#).len", &[of], depth + 1)
            }
            7 | 8 => {
                let text = self.random.pick(&["(#).first", "(#).last", "(#).last_nonaggregated"]);
                self.of(Type::Int, text, &[Type::Path], depth + 1)
            }
            9 => {
                let text = self.random.pick(&["(#).asn", "(#).data"]);
                self.of(Type::Int, text, &[Type::Pair], depth + 1)
            }
            _ => {
                let text = self.random.pick(&["(#).asn", "(#).data1", "(#).data2"]);
                self.of(Type::Int, text, &[Type::Lc], depth + 1)
            }
        }
    }

    fn condition(&mut self, depth: u32) -> Node {
        let ty = Type::Bool;
        match self.random.below(12) {
            0 => self.of(ty, "(# && #)", &[ty, ty], depth + 1),
            1 => self.of(ty, "(# || #)", &[ty, ty], depth + 1),
            2 => self.of(ty, "!(#)", &[ty], depth + 1),
            3 | 4 => {
                let of = self.random.pick(&COMPARABLE);
                let text = self.random.pick(&["(# = #)", "(# != #)"]);
                self.of(ty, text, &[of, of], depth + 1)
            }
            5 | 6 => {
                let of = self.random.pick(&COMPARABLE[..8]);
                let text = self.random.pick(&["(# < #)", "(# <= #)", "(# > #)", "(# >= #)"]);
                self.of(ty, text, &[of, of], depth + 1)
            }
            7 => self.of(ty, "(#).is_v4", &[Type::Ip], depth + 1),
            8 => {
                const SCALARS: [&str; 4] = ["bgp_med", "bgp_local_pref", "bgp_otc", "bgp_originator_id"];
                value(ty, &format!("defined({})", self.random.pick(&SCALARS)), vec![])
            }
            9 => {
                if self.random.one_in(2) {
                    let text = format!("({})", self.random.pick(&ASKED));
                    return value(ty, &text, vec![]);
                }
                let of = self.random.pick(&ENUMS);
                let text = self.random.pick(&["(# = #)", "(# != #)"]);
                self.of(ty, text, &[of, of], depth + 1)
            }
            _ => {
                let (left, right) = self.random.pick(&MATCHES);
                let text = self.random.pick(&["(# ~ #)", "(# ~ #)", "(# !~ #)"]);
                self.of(ty, text, &[left, right], depth + 1)
            }
        }
    }

    fn leaf(&mut self, ty: Type) -> Node {
        let variables: Vec<u32> = self
            .scope
            .iter()
            .filter(|(_, of)| *of == ty)
            .map(|(number, _)| *number)
            .collect();
        if !variables.is_empty() && self.random.one_in(2) {
            return value(ty, &name(self.random.pick(&variables)), vec![]);
        }
        let attributes: Vec<&str> = READ.iter().filter(|(of, _)| *of == ty).map(|(_, text)| *text).collect();
        if !attributes.is_empty() && !self.random.one_in(3) {
            return value(ty, self.random.pick(&attributes), vec![]);
        }
        let text = self.literal(ty);
        value(ty, &text, vec![])
    }

    // === Literals ===

    fn literal(&mut self, ty: Type) -> String {
        let number = self.random.pick(&NUMBERS);
        let (a, b) = (self.random.pick(&HALVES), self.random.pick(&HALVES));
        let pick = |random: &mut Random, all: &[&'static str]| random.pick(all).to_owned();
        match ty {
            Type::Bool => pick(self.random, &["true", "false"]),
            Type::Int => number.to_string(),
            Type::Ip if self.random.one_in(5) => "2001:db8:1::".to_owned(),
            Type::Ip => pick(self.random, &ADDRESSES),
            Type::Prefix => pick(
                self.random,
                &["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "2001:db8::/32", "0.0.0.0/0"],
            ),
            Type::Pair => format!("({a},{b})"),
            Type::Quad => pick(self.random, &["1.2.3.4", "1.2.3.5", "10.0.0.1"]),
            Type::Ec => format!("({},{a},{number})", self.random.pick(&["rt", "ro", "unknown 0x4002"])),
            Type::Lc => format!("({number},{},{a})", self.random.pick(&NUMBERS)),
            Type::Text => pick(self.random, &["\"*1*\"", "\"s4\"", "\"s?\"", "\"\"", "\"10.*\""]),
            Type::Path => pick(self.random, &["+empty+", "prepend(prepend(+empty+, 1), 65010)"]),
            Type::Clist => format!("add(add(-empty-, ({a},{b})), ({b},{a}))"),
            Type::Eclist => format!("add(--empty--, (rt,{a},{number}))"),
            Type::Lclist => format!("add(---empty---, ({number},{a},1))"),
            Type::Source => pick(self.random, &["RTS_BGP", "RTS_STATIC", "RTS_DEVICE"]),
            Type::Origin => pick(self.random, &["ORIGIN_IGP", "ORIGIN_EGP", "ORIGIN_INCOMPLETE"]),
            Type::Dest => pick(self.random, &["RTD_UNICAST", "RTD_BLACKHOLE", "RTD_PROHIBIT"]),
            Type::NetKind => pick(self.random, &["NET_IP4", "NET_IP6", "NET_ROA4"]),
            Type::Roa => pick(self.random, &["ROA_UNKNOWN", "ROA_VALID", "ROA_INVALID"]),
            Type::Mask => self.mask(),
            Type::Prefixes => self.patterns(),
            Type::Ints => self.set(Type::Int),
            Type::Pairs => self.set(Type::Pair),
            Type::Ips => self.set(Type::Ip),
            Type::Ecs => self.set(Type::Ec),
            Type::Lcs => self.set(Type::Lc),
        }
    }

    fn set(&mut self, of: Type) -> String {
        format!("[{}]", self.members(of, 4).join(", "))
    }

    /// Members of a set, or labels of a case, no two of which overlap.
    fn members(&mut self, of: Type, most: u32) -> Vec<String> {
        let count = 1 + self.random.below(most);
        let mut all = Vec::new();
        // Each has a first number of its own; a range reaches up to before the next.
        const FIRST: [(u32, u32); 7] = [(1, 1), (2, 2), (3, 4), (5, 6), (7, 99), (100, 64512), (65010, 65010)];
        for (low, high) in FIRST {
            if all.len() == count as usize || self.random.one_in(2) {
                continue;
            }
            let half = self.random.pick(&HALVES);
            let range = low != high && self.random.one_in(2);
            all.push(match of {
                Type::Int if range => format!("{low}..{high}"),
                Type::Int => low.to_string(),
                Type::Pair => match self.random.below(4) {
                    0 => format!("({low},*)"),
                    1 => format!("({low},{half}..65535)"),
                    // BIRD makes a range of each of the first numbers.
                    2 if high < 100 => format!("({low}..{high},{half})"),
                    _ => format!("({low},{half})"),
                },
                Type::Ip if range => format!("10.{}.0.0..10.{}.255.255", low % 256, low % 256),
                Type::Ip => format!("10.{}.{}.1", low % 256, half % 256),
                Type::Ec => match self.random.below(3) {
                    0 => format!("(rt,{low},*)"),
                    1 => format!("(rt,{low},2..70000)"),
                    _ => format!("(ro,{low},{half})"),
                },
                Type::Lc => match self.random.below(4) {
                    0 => format!("({low},*,*)"),
                    1 => format!("({low},{half},*)"),
                    2 => format!("({low}..{high},*,*)"),
                    _ => format!("({low},{half},{half})"),
                },
                _ => break,
            });
        }
        match of {
            Type::Source => all = vec!["RTS_BGP".into(), "RTS_STATIC".into()],
            Type::Origin => all = vec!["ORIGIN_IGP".into(), "ORIGIN_INCOMPLETE".into()],
            Type::Dest => all = vec!["RTD_UNICAST".into(), "RTD_UNREACHABLE..RTD_PROHIBIT".into()],
            Type::NetKind => all = vec!["NET_IP4".into(), "NET_IP6..NET_VPN4".into()],
            Type::Roa => all = vec!["ROA_VALID".into(), "ROA_UNKNOWN".into()],
            Type::Quad => all = vec!["1.2.3.4".into(), "10.0.0.0..10.0.0.9".into()],
            // Behind an IPv6 address a label's colon would be one of its own.
            Type::Ip if all.is_empty() => all = vec!["10.1.0.0".into()],
            _ if all.is_empty() => all = vec![self.literal(of)],
            _ => {}
        }
        all
    }

    fn patterns(&mut self) -> String {
        const NETS: [&str; 7] = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.0.1.0/24",
            "10.2.0.0/20",
            "10.0.0.0/12",
            "0.0.0.0/0",
            "10.203.0.0/16",
        ];
        const ENDS: [&str; 8] = ["", "+", "-", "{16,24}", "{20,32}", "{8,16}", "{24,24}", "{0,32}"];
        if self.random.one_in(6) {
            let end = self.random.pick(&["", "+", "{48,64}", "{0,48}", "-"]);
            return format!("[2001:db8::/32{end}, 2001:db8:ff00::/40+]");
        }
        let all: Vec<String> = (0..=self.random.below(3))
            .map(|_| format!("{}{}", self.random.pick(&NETS), self.random.pick(&ENDS)))
            .collect();
        format!("[{}]", all.join(", "))
    }

    fn mask(&mut self) -> String {
        let mut items = Vec::new();
        for _ in 0..=self.random.below(4) {
            let number = self.random.pick(&NUMBERS);
            items.push(match self.random.below(8) {
                0 | 1 => "*".to_owned(),
                2 => "?".to_owned(),
                3 => "1..7".to_owned(),
                4 => "[1, 3..5]".to_owned(),
                5 => format!("{number} +"),
                6 if self.random.one_in(2) => "(net.len - 20)".to_owned(),
                _ => number.to_string(),
            });
        }
        format!("[= {} =]", items.join(" "))
    }
}

#[test]
fn the_same_seed_makes_the_same_program() {
    let text = |seed| program(&mut Random::new(seed)).to_string();
    assert_eq!(text(5), text(5));
    assert_ne!(text(5), text(6));
}
