//! Runs programs. A pure function of the program and the route.
//!
//! Every run is bounded in steps and in depth; a failure of any kind rejects the route and says where.

use super::ast::{BinaryOp, Call, Callee, Expr, ExprKind, Filter, Function, Line, MaskPart, Statement, Statements};
use super::attribute::Attribute;
use super::mask::{MaskItem, PathMask};
use super::notes::Notes;
use super::operation as op;
use super::route::{Problem, RouteContext, RunError, Verdict};
use super::value::Value;
use crate::roa::RoaTables;

mod validity;

/// A filter that takes more statements than this is stopped.
const MAX_STEPS: u32 = 1_000_000;

/// The sum of the depths of the functions that are active: a bound on our own stack.
const MAX_ACTIVE_DEPTH: u32 = 400;

/// Where control goes after a statement.
enum Flow {
    Next,
    Return(Value),
    End(bool),
}

/// What ends a filter in the middle of an expression.
enum Stop {
    Failed(Box<RunError>),
    /// A function that was called for its result accepts or rejects: that is the filter's word, as in BIRD.
    Decided(bool),
}

type Run<T> = Result<T, Stop>;

impl Filter {
    /// Decides on a route, and changes it. A route that is rejected may have been changed too.
    pub fn run(&self, route: &mut RouteContext<'_>) -> Verdict {
        self.run_noting(route, &mut Notes::default())
    }

    /// The same, and adds what it asked of the prefix. A verdict that says anything holds for this prefix only.
    pub fn run_noting<'p>(&'p self, route: &mut RouteContext<'_>, notes: &mut Notes<'p>) -> Verdict {
        let mut machine = Machine::new(Some(route), notes);
        let (accepted, error) = match machine.body(&self.body) {
            Ok(Flow::End(accepted)) | Err(Stop::Decided(accepted)) => (accepted, None),
            Ok(Flow::Next | Flow::Return(_)) => (false, None),
            Err(Stop::Failed(error)) => (false, Some(*error)),
        };
        let messages = machine.finish();
        if error.is_some() || !messages.is_empty() {
            notes.note_whole();
        }
        Verdict {
            accepted,
            messages,
            error,
        }
    }

    /// Runs the filter over a route of our own for its assignments, as static routes have them; whether it accepts means
    /// nothing.
    pub fn apply(&self, route: &mut RouteContext<'_>) -> Verdict {
        Verdict {
            accepted: true,
            ..self.run(route)
        }
    }
}

/// The value of an expression without a route: a constant of the configuration, or with tables of ROAs what an operator asks.
pub(crate) fn evaluate(expr: &Expr, roas: Option<&RoaTables>) -> Result<Value, RunError> {
    let mut notes = Notes::default();
    let mut machine = Machine::new(None, &mut notes);
    machine.roas = roas;
    machine.eval(expr).map_err(|stop| match stop {
        Stop::Failed(error) => *error,
        Stop::Decided(_) => RunError {
            line: expr.line.0,
            problem: Problem::Decided,
        },
    })
}

/// Runs what lives as long as `'p`.
struct Machine<'p, 'r, 'a> {
    route: Option<&'r mut RouteContext<'a>>,
    /// What `roa_check` asks where there is no route.
    roas: Option<&'r RoaTables>,
    /// What is asked of the prefix: wherever a value comes from `net`.
    notes: &'r mut Notes<'p>,
    /// The variables of all active frames.
    stack: Vec<Value>,
    /// Where the current frame begins.
    base: usize,
    /// The function that runs now, if any.
    function: Option<&'p Function>,
    steps: u32,
    depth: u32,
    messages: Vec<String>,
    /// What `printn` wrote since the last line ended.
    partial: String,
}

impl<'p, 'r, 'a> Machine<'p, 'r, 'a> {
    fn new(route: Option<&'r mut RouteContext<'a>>, notes: &'r mut Notes<'p>) -> Self {
        Machine {
            route,
            roas: None,
            notes,
            stack: Vec::new(),
            base: 0,
            function: None,
            steps: 0,
            depth: 0,
            messages: Vec::new(),
            partial: String::new(),
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.partial.is_empty() {
            self.messages.push(std::mem::take(&mut self.partial));
        }
        self.messages
    }

    // === Statements ===

    fn body(&mut self, body: &'p Statements) -> Run<Flow> {
        self.stack.resize(self.base + usize::from(body.slots), Value::Void);
        self.list(&body.list)
    }

    fn list(&mut self, list: &'p [Statement]) -> Run<Flow> {
        for statement in list {
            match self.statement(statement)? {
                Flow::Next => {}
                end => return Ok(end),
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'p Statement) -> Run<Flow> {
        self.steps += 1;
        match statement {
            Statement::Declare(variable, init) => {
                let value = match init {
                    Some(init) => self.assigned(init)?,
                    None => Value::initial(variable.ty),
                };
                self.store(variable.slot, op::convert(variable.ty, value));
            }
            Statement::Assign(variable, value) => {
                let value = self.assigned(value)?;
                self.store(variable.slot, op::convert(variable.ty, value));
            }
            Statement::Set(attribute, value) => self.set(*attribute, value)?,
            Statement::Unset(attribute) => {
                if let Some(route) = self.route.as_deref_mut() {
                    route.unset(*attribute);
                }
            }
            Statement::If(condition, then, otherwise) => {
                return match (self.test(condition)?, otherwise) {
                    (true, _) => self.statement(then),
                    (false, Some(otherwise)) => self.statement(otherwise),
                    (false, None) => Ok(Flow::Next),
                };
            }
            Statement::Case(case) => {
                let subject = self.eval(&case.subject)?;
                let arm = case.arms.iter().find(|(labels, _)| labels.contains(&subject));
                let chosen = arm.map(|(_, list)| list).or(case.otherwise.as_ref());
                return chosen.map_or(Ok(Flow::Next), |list| self.list(list));
            }
            Statement::For(variable, list, body) => return self.each(variable.slot, list, body),
            Statement::Block(list) => return self.list(list),
            Statement::Return(value) => return self.eval(value).map(Flow::Return),
            Statement::End(accept, print) => {
                if !print.is_empty() {
                    self.print(print, true)?;
                }
                return Ok(Flow::End(*accept));
            }
            Statement::Print(line, print) => self.print(print, *line)?,
            Statement::Call(call) => match self.call(call)? {
                Flow::End(accept) => return Ok(Flow::End(accept)),
                Flow::Next | Flow::Return(_) => {}
            },
        }
        Ok(Flow::Next)
    }

    fn each(&mut self, slot: u16, list: &'p Expr, body: &'p Statement) -> Run<Flow> {
        let items = op::items(self.eval(list)?).map_err(|p| fail(list.line, p))?;
        for item in items {
            if self.steps > MAX_STEPS {
                return Err(fail(list.line, Problem::TooLong(MAX_STEPS)));
            }
            self.store(slot, item);
            match self.statement(body)? {
                Flow::Next => {}
                end => return Ok(end),
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, print: &'p [Expr], ends_line: bool) -> Run<()> {
        use std::fmt::Write as _;
        for expr in print {
            let value = self.eval(expr)?;
            let _ = write!(self.partial, "{value}"); // Writing to a String cannot fail.
        }
        if ends_line {
            self.messages.push(std::mem::take(&mut self.partial));
        }
        Ok(())
    }

    fn set(&mut self, attribute: Attribute, value: &'p Expr) -> Run<()> {
        let line = value.line;
        if let ExprKind::Edit(edit, list, what) = &value.kind
            && matches!(list.kind, ExprKind::Attribute(of) if of == attribute)
            // What a function does to the attribute comes too late, as in BIRD: the old value is the one that is changed.
            && !what.calls()
        {
            let evaluated;
            let what = match &what.kind {
                ExprKind::Constant(value) => value,
                _ => {
                    evaluated = self.eval(what)?;
                    &evaluated
                }
            };
            let route = self.route.as_deref_mut();
            let route = route.ok_or_else(|| fail(line, Problem::NoRoute(attribute.as_str())))?;
            return route.edit(attribute, *edit, what).map_err(|p| fail(line, p));
        }
        let value = self.eval(value)?;
        let route = self.route.as_deref_mut();
        let route = route.ok_or_else(|| fail(line, Problem::NoRoute(attribute.as_str())))?;
        route.set(attribute, value).map_err(|p| fail(line, p))
    }

    // === Variables and calls ===

    /// What a variable is to hold. As in BIRD that is a value; an argument may be none.
    fn assigned(&mut self, expr: &'p Expr) -> Run<Value> {
        match self.eval(expr)? {
            Value::Void => {
                let problem = op::mistyped("what a variable is set to", "its own type", &Value::Void);
                Err(fail(expr.line, undefined(expr, problem)))
            }
            value => Ok(value),
        }
    }

    fn store(&mut self, slot: u16, value: Value) {
        if let Some(place) = self.stack.get_mut(self.base + usize::from(slot)) {
            *place = value;
        }
    }

    fn load(&self, slot: u16) -> &Value {
        self.stack.get(self.base + usize::from(slot)).unwrap_or(&Value::Void)
    }

    /// Calls a function: `Return` with its result, `Next` without, `End` when it decided.
    fn call(&mut self, call: &'p Call) -> Run<Flow> {
        let function: &'p Function = match &call.callee {
            Callee::Function(f) => f,
            Callee::Itself(_) => match self.function {
                Some(f) => f,
                None => return Ok(Flow::Next),
            },
        };
        let depth = self.depth + u32::from(function.body.depth) + 1;
        self.steps += 1;
        if depth > MAX_ACTIVE_DEPTH {
            return Err(fail(call.line, Problem::TooDeep));
        }
        if self.steps > MAX_STEPS {
            return Err(fail(call.line, Problem::TooLong(MAX_STEPS)));
        }
        let caller = (self.base, self.function, self.depth, self.stack.len());
        for (argument, (_, ty)) in call.arguments.iter().zip(&function.parameters) {
            // Each is evaluated in the caller's frame; those before it are behind that.
            let value = op::convert(*ty, self.eval(argument)?);
            self.stack.push(value);
        }
        self.base = caller.3;
        self.function = Some(function);
        self.depth = depth;
        let result = self.body(&function.body);
        self.stack.truncate(caller.3);
        (self.base, self.function, self.depth) = (caller.0, caller.1, caller.2);
        result
    }

    // === Expressions ===

    /// The value of a condition.
    fn test(&mut self, expr: &'p Expr) -> Run<bool> {
        match &expr.kind {
            ExprKind::Not(operand) => self.test(operand).map(|b| !b),
            ExprKind::Binary(BinaryOp::And, left, right) => Ok(self.test(left)? && self.test(right)?),
            ExprKind::Binary(BinaryOp::Or, left, right) => Ok(self.test(left)? || self.test(right)?),
            ExprKind::Binary(BinaryOp::Match, left, right) => self.matches(left, right, expr.line),
            ExprKind::Binary(BinaryOp::NotMatch, left, right) => self.matches(left, right, expr.line).map(|b| !b),
            _ => {
                let value = self.eval(expr)?;
                op::boolean(&value).map_err(|p| fail(expr.line, undefined(expr, p)))
            }
        }
    }

    /// `left ~ right`, without copying the lists of the route.
    fn matches(&mut self, left: &'p Expr, right: &'p Expr, line: Line) -> Run<bool> {
        if let (Some(route), ExprKind::Attribute(attribute), ExprKind::Constant(what)) =
            (self.route.as_deref(), &left.kind, &right.kind)
            && let Some(answer) = route.attribute_matches(*attribute, what)
        {
            if let (Attribute::Net, Value::PrefixSet(set)) = (attribute, what) {
                self.notes.note_set(set, answer);
            }
            return Ok(answer);
        }
        if let (Some(route), ExprKind::Constant(what), ExprKind::Attribute(attribute)) =
            (self.route.as_deref(), &left.kind, &right.kind)
            && let Some(answer) = route.attribute_has(*attribute, what)
        {
            return Ok(answer);
        }
        let (l, r) = (self.eval(left)?, self.eval(right)?);
        op::matches(&l, &r).map_err(|p| fail(line, undefined(left, p)))
    }

    fn eval(&mut self, expr: &'p Expr) -> Run<Value> {
        let line = expr.line;
        match &expr.kind {
            ExprKind::Constant(value) => Ok(value.clone()),
            ExprKind::Variable(variable) => Ok(self.load(variable.slot).clone()),
            ExprKind::Attribute(attribute) => match self.route.as_deref() {
                Some(route) => {
                    if *attribute == Attribute::Net {
                        self.notes.note_whole();
                    }
                    Ok(route.get(*attribute))
                }
                None => Err(fail(line, Problem::NoRoute(attribute.as_str()))),
            },
            ExprKind::Not(_) => self.test(expr).map(Value::Bool),
            ExprKind::Binary(operator, left, right) => self.binary(*operator, left, right, expr),
            ExprKind::Pair(a, b) => {
                let (a, b) = (self.int(a)?, self.int(b)?);
                op::pair(a, b).map_err(|p| fail(line, p))
            }
            ExprKind::Ec(kind, key, value) => {
                let (key, value) = (self.eval(key)?, self.int(value)?);
                op::ec(*kind, &key, value).map_err(|p| fail(line, p))
            }
            ExprKind::Lc(parts) => {
                let [a, b, c] = parts.as_ref();
                let lc = tortie_net::LargeCommunity(self.int(a)?, self.int(b)?, self.int(c)?);
                Ok(Value::Lc(lc))
            }
            ExprKind::Mask(parts) => self.mask(parts),
            ExprKind::Member(member, object) => {
                if let (ExprKind::Attribute(attribute), Some(route)) = (&object.kind, self.route.as_deref())
                    && let Some(value) = route.attribute_member(*attribute, *member)
                {
                    if *attribute == Attribute::Net {
                        self.notes.note_member(*member, route.net);
                    }
                    return Ok(value);
                }
                let value = self.eval(object)?;
                op::member(*member, &value).map_err(|p| fail(line, undefined(object, p)))
            }
            ExprKind::AddressMask(address, length) => {
                let (address, length) = (self.eval(address)?, self.int(length)?);
                op::address_mask(&address, length).map_err(|p| fail(line, p))
            }
            ExprKind::Edit(edit, list, what) => {
                let (value, what) = (self.eval(list)?, self.eval(what)?);
                op::edit(*edit, value, &what).map_err(|p| fail(line, undefined(list, p)))
            }
            ExprKind::Defined(operand) => Ok(Value::Bool(op::defined(&self.eval(operand)?))),
            ExprKind::Format(operand) => Ok(Value::String(self.eval(operand)?.to_string().into())),
            ExprKind::RoaCheck(check) => self.roa_check(check, line),
            ExprKind::Call(call) => match self.call(call)? {
                Flow::Return(value) => Ok(value),
                Flow::Next => Ok(Value::Void),
                Flow::End(accepted) => Err(Stop::Decided(accepted)),
            },
        }
    }

    fn binary(&mut self, operator: BinaryOp, left: &'p Expr, right: &'p Expr, whole: &'p Expr) -> Run<Value> {
        match operator {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Match | BinaryOp::NotMatch => self.test(whole).map(Value::Bool),
            BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide => {
                let (l, r) = (self.int(left)?, self.int(right)?);
                op::arithmetic(operator, l, r).map_err(|p| fail(whole.line, p))
            }
            BinaryOp::Equal | BinaryOp::NotEqual => {
                let (l, r) = (self.eval(left)?, self.eval(right)?);
                Ok(Value::Bool(op::same(&l, &r) == (operator == BinaryOp::Equal)))
            }
            BinaryOp::Less | BinaryOp::LessEqual | BinaryOp::Greater | BinaryOp::GreaterEqual => {
                // BIRD takes `a > b` for `b < a`, which shows when a function on the right changes what is on the left.
                let (l, r) = if matches!(operator, BinaryOp::Greater | BinaryOp::GreaterEqual) {
                    let r = self.eval(right)?;
                    (self.eval(left)?, r)
                } else {
                    (self.eval(left)?, self.eval(right)?)
                };
                let answer = op::ordered(operator, &l, &r);
                answer.map(Value::Bool).map_err(|p| fail(whole.line, p))
            }
        }
    }

    fn int(&mut self, expr: &'p Expr) -> Run<u32> {
        match self.eval(expr)? {
            Value::Int(i) => Ok(i),
            other => {
                let problem = op::mistyped("a number", "int", &other);
                Err(fail(expr.line, undefined(expr, problem)))
            }
        }
    }

    fn mask(&mut self, parts: &'p [MaskPart]) -> Run<Value> {
        let mut items = Vec::with_capacity(parts.len());
        for part in parts {
            items.push(match part {
                MaskPart::Item(item) => item.clone(),
                MaskPart::Expr(expr) => MaskItem::Asn(self.int(expr)?),
            });
        }
        Ok(Value::Mask(PathMask { items }.into()))
    }
}

fn fail(line: Line, problem: Problem) -> Stop {
    Stop::Failed(Box::new(RunError { line: line.0, problem }))
}

/// A void where a value is needed is best explained by the attribute that is not there.
fn undefined(expr: &Expr, problem: Problem) -> Problem {
    match (&expr.kind, &problem) {
        (ExprKind::Attribute(attribute), Problem::Type { got, .. }) if got == "(void)" => {
            Problem::Undefined(attribute.as_str())
        }
        _ => problem,
    }
}
