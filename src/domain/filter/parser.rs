//! The grammar of AIP-160, by recursive descent.
//!
//! ```text
//! expression : sequence {WS AND WS sequence}
//! sequence   : factor {WS factor}
//! factor     : term {WS OR WS term}
//! term       : [(NOT WS | MINUS)] simple
//! simple     : restriction | composite
//! restriction: comparable [comparator arg]
//! composite  : LPAREN expression RPAREN
//! ```
//!
//! Wider than the AIP in two places where it can mean only one thing: `NOT(x)` needs no space, and
//! a value without quotes may hold colons and begin with a minus.

use super::{
    Fault, MAX_FILTER_DEPTH, MAX_FILTER_TERMS,
    scanner::{Place, Scanner},
    syntax::{Comparator, Comparison, Expression, Literal, Path},
};

const KEYWORDS: [&str; 3] = ["AND", "OR", "NOT"];

/// What `text` says; `None` if it says nothing.
pub(super) fn parse(text: &str) -> Result<Option<Expression>, Fault> {
    let mut parser = Parser { scanner: Scanner::new(text), depth: 0, terms: 0 };
    parser.scanner.skip_space();
    if parser.scanner.peek().is_none() {
        return Ok(None);
    }
    let expression = parser.expression()?;
    match parser.scanner.peek() {
        None => Ok(Some(expression)),
        Some(')') => Err(Fault::new(parser.scanner.at(), "this `)` has no `(`; remove it")),
        Some(_) => Err(parser.scanner.unexpected("AND, OR or the end")),
    }
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    depth: usize,
    terms: usize,
}

impl Parser<'_> {
    fn expression(&mut self) -> Result<Expression, Fault> {
        let mut sequences = vec![self.sequence()?];
        while self.scanner.eat_keyword("AND") {
            sequences.push(self.sequence()?);
        }
        Ok(Expression::all(sequences))
    }

    fn sequence(&mut self) -> Result<Expression, Fault> {
        let mut factors = vec![self.factor()?];
        while self.another_follows()? {
            factors.push(self.factor()?);
        }
        Ok(Expression::all(factors))
    }

    fn another_follows(&self) -> Result<bool, Fault> {
        match self.scanner.peek() {
            None | Some(')') => Ok(false),
            Some('(') if !self.scanner.is_set_apart() => Err(Fault::new(
                self.scanner.at(),
                "functions are not supported; if none is meant, put a space before the `(`",
            )),
            Some(_) if !self.scanner.is_set_apart() => {
                Err(self.scanner.unexpected("a space, a `)` or the end"))
            }
            Some(_) => Ok(!self.scanner.sees_keyword("AND")),
        }
    }

    fn factor(&mut self) -> Result<Expression, Fault> {
        let mut terms = vec![self.term()?];
        while self.scanner.is_set_apart() && self.scanner.eat_keyword("OR") {
            terms.push(self.term()?);
        }
        Ok(Expression::any(terms))
    }

    fn term(&mut self) -> Result<Expression, Fault> {
        self.scanner.skip_space();
        let negated = if self.scanner.eat_keyword("NOT") {
            self.scanner.skip_space();
            true
        } else {
            self.scanner.eat('-')
        };
        let simple = self.simple()?;
        self.scanner.skip_space();
        Ok(if negated { Expression::Not(Box::new(simple)) } else { simple })
    }

    fn simple(&mut self) -> Result<Expression, Fault> {
        if self.scanner.peek() == Some('(') { self.composite() } else { self.restriction() }
    }

    fn composite(&mut self) -> Result<Expression, Fault> {
        let open = self.scanner.at();
        self.depth += 1;
        if self.depth > MAX_FILTER_DEPTH {
            return Err(Fault::new(
                open,
                format!("parentheses are nested more than {MAX_FILTER_DEPTH} deep; flatten them"),
            ));
        }
        self.scanner.eat('(');
        let inner = self.expression()?;
        if !self.scanner.eat(')') {
            return Err(Fault::new(open, "this `(` is never closed; add a `)`"));
        }
        self.depth -= 1;
        Ok(inner)
    }

    fn restriction(&mut self) -> Result<Expression, Fault> {
        self.refuse_keyword("a field or a text")?;
        if self.scanner.peek() == Some('-') {
            return Err(self.scanner.unexpected("a field or a text, after at most one negation"));
        }
        let at = self.scanner.at();
        let members = self.members()?;
        if self.scanner.peek() == Some('(') {
            return Err(Fault::new(at, "functions are not supported; compare a field instead"));
        }
        self.scanner.skip_space();
        let Some(comparator) = self.scanner.eat_comparator()? else {
            return self.text(members);
        };
        let path = path(members, at)?;
        self.scanner.skip_space();
        self.argument(path, comparator)
    }

    /// Names with dots between.
    fn members(&mut self) -> Result<Vec<Literal>, Fault> {
        let mut members = vec![self.scanner.literal(Place::Name)?];
        while self.scanner.eat('.') {
            members.push(self.scanner.literal(Place::Name)?);
        }
        Ok(members)
    }

    /// A restriction without a comparator: a text to be found anywhere.
    fn text(&mut self, members: Vec<Literal>) -> Result<Expression, Fault> {
        let literal = joined(members);
        let word = literal.plain().filter(|_| !literal.quoted);
        if let Some(keyword) = word.and_then(|word| {
            KEYWORDS.into_iter().find(|keyword| keyword.eq_ignore_ascii_case(word))
        }) {
            return Err(Fault::new(
                literal.at,
                format!("write {keyword} in capitals, or in quotes to search for the text"),
            ));
        }
        self.count_term(literal.at)?;
        Ok(Expression::Text(literal))
    }

    fn argument(&mut self, path: Path, comparator: Comparator) -> Result<Expression, Fault> {
        if self.scanner.peek() == Some('(') {
            return self.alternatives(&path, comparator);
        }
        self.refuse_keyword("a value")?;
        let value = self.scanner.literal(Place::Value)?;
        self.count_term(value.at)?;
        Ok(Expression::Comparison(Comparison { path, comparator, value }))
    }

    /// `field = (a OR b)`: the comparison is made with each text inside.
    fn alternatives(&mut self, path: &Path, comparator: Comparator) -> Result<Expression, Fault> {
        let at = self.scanner.at();
        if !matches!(comparator, Comparator::Equal | Comparator::Has) {
            return Err(Fault::new(
                at,
                format!("`{comparator}` takes one value; use `=` with several, and NOT to negate"),
            ));
        }
        let inner = self.composite()?;
        distributed(inner, path, comparator)
            .map_err(|inner| Fault::new(inner, "only values, AND, OR and NOT may stand in here"))
    }

    fn refuse_keyword(&self, wanted: &str) -> Result<(), Fault> {
        match KEYWORDS.into_iter().find(|keyword| self.scanner.sees_keyword(keyword)) {
            None => Ok(()),
            Some(keyword) => Err(Fault::new(
                self.scanner.at(),
                format!(
                    "{keyword} stands where {wanted} should; put it in quotes to mean the text"
                ),
            )),
        }
    }

    fn count_term(&mut self, at: usize) -> Result<(), Fault> {
        self.terms += 1;
        if self.terms > MAX_FILTER_TERMS {
            return Err(Fault::new(
                at,
                format!("more than {MAX_FILTER_TERMS} comparisons and texts; ask in parts"),
            ));
        }
        Ok(())
    }
}

fn path(members: Vec<Literal>, at: usize) -> Result<Path, Fault> {
    let name = |member: Literal| match &*member.parts {
        [name] => Ok(name.clone()),
        _ => Err(Fault::new(member.at, "`*` cannot stand in a field's name; name the field")),
    };
    let names = members.into_iter().map(name).collect::<Result<_, _>>()?;
    Ok(Path { names, at })
}

/// The members of a text, with their dots.
fn joined(members: Vec<Literal>) -> Literal {
    members
        .into_iter()
        .reduce(|mut text, member| {
            let mut parts = member.parts.into_iter();
            if let (Some(last), Some(first)) = (text.parts.last_mut(), parts.next()) {
                last.push('.');
                last.push_str(&first);
            }
            text.parts.extend(parts);
            text.quoted |= member.quoted;
            text
        })
        .expect("a restriction has a member at least")
}

/// `inner` with the comparison made with each of its texts, or where something else stands in it.
fn distributed(
    inner: Expression,
    path: &Path,
    comparator: Comparator,
) -> Result<Expression, usize> {
    let each = |parts: Vec<Expression>| {
        parts.into_iter().map(|part| distributed(part, path, comparator)).collect::<Result<_, _>>()
    };
    match inner {
        Expression::All(parts) => each(parts).map(Expression::All),
        Expression::Any(parts) => each(parts).map(Expression::Any),
        Expression::Not(part) => {
            Ok(Expression::Not(Box::new(distributed(*part, path, comparator)?)))
        }
        Expression::Text(value) => {
            Ok(Expression::Comparison(Comparison { path: path.clone(), comparator, value }))
        }
        Expression::Comparison(comparison) => Err(comparison.path.at),
    }
}
