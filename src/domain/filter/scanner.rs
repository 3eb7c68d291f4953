//! The words, quoted texts and signs of a filter, one at a time.

use super::{
    Fault,
    syntax::{Comparator, Literal},
};

/// Where a word stands decides which signs may be in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Before a comparator, between dots.
    Name,
    /// After a comparator, where dots and colons are part of the value, as in a time of day.
    Value,
}

/// Reads a filter from its beginning to its end.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte that is read next.
    pub const fn at(&self) -> usize {
        self.at
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Whether what comes next is set apart from what was read before.
    pub fn is_set_apart(&self) -> bool {
        let last = self.text[..self.at].chars().next_back();
        last.is_none_or(|last| last.is_whitespace() || last == '(')
    }

    /// Reads `sign` if it comes next.
    pub fn eat(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(sign);
        if found {
            self.at += sign.len_utf8();
        }
        found
    }

    /// Whether `word` comes next, and is no part of a longer word.
    pub fn sees_keyword(&self, word: &str) -> bool {
        self.rest().strip_prefix(word).is_some_and(|after| {
            after.chars().next().is_none_or(|next| next.is_whitespace() || "()".contains(next))
        })
    }

    /// Reads `word` if it comes next, and is no part of a longer word.
    pub fn eat_keyword(&mut self, word: &str) -> bool {
        let found = self.sees_keyword(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Reads a comparator if one comes next.
    pub fn eat_comparator(&mut self) -> Result<Option<Comparator>, Fault> {
        let at = self.at;
        let comparator = match self.peek() {
            Some('=') => Comparator::Equal,
            Some(':') => Comparator::Has,
            Some('<') => Comparator::Less,
            Some('>') => Comparator::Greater,
            Some('!') => Comparator::NotEqual,
            _ => return Ok(None),
        };
        self.at += 1;
        let equals = self.eat('=');
        match (comparator, equals) {
            (Comparator::Less, true) => Ok(Some(Comparator::LessOrEqual)),
            (Comparator::Greater, true) => Ok(Some(Comparator::GreaterOrEqual)),
            (Comparator::NotEqual, true) => Ok(Some(Comparator::NotEqual)),
            (Comparator::NotEqual, false) => {
                Err(Fault::new(at, "`!` alone is no comparator; write `!=`, or NOT to negate"))
            }
            (Comparator::Equal, true) => Err(Fault::new(at, "`==` is no comparator; write `=`")),
            (Comparator::Has, true) => Err(Fault::new(at, "`:=` is no comparator; write `:`")),
            (plain, _) => Ok(Some(plain)),
        }
    }

    /// Reads a quoted text or a word.
    pub fn literal(&mut self, place: Place) -> Result<Literal, Fault> {
        match self.peek() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            Some('`') => self.back_ticked(),
            _ => self.word(place),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Literal, Fault> {
        let at = self.at;
        let mut parts = vec![String::new()];
        let mut escaped = false;
        for (offset, character) in self.rest().char_indices().skip(1) {
            let last = parts.last_mut().expect("there is always a last part");
            match character {
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                _ if escaped && !"\\\"'*`".contains(character) => {
                    return Err(Fault::new(
                        at + offset - 1,
                        r#"after a backslash only \ " ' ` and * may stand; write \\ for one"#,
                    ));
                }
                _ if escaped => last.push(character),
                '*' => parts.push(String::new()),
                _ if character == quote => {
                    self.at = at + offset + 1;
                    return Ok(Literal { parts, quoted: true, at });
                }
                _ => last.push(character),
            }
            escaped = false;
        }
        Err(Fault::new(at, format!("a closing {quote} is missing")))
    }

    /// A name in back-ticks, as in a field mask (AIP-161): no escapes, no stars.
    fn back_ticked(&mut self) -> Result<Literal, Fault> {
        let at = self.at;
        let Some((name, _)) = self.rest()[1..].split_once('`') else {
            return Err(Fault::new(at, "a closing ` is missing"));
        };
        self.at += name.len() + 2;
        Ok(Literal { parts: vec![name.to_owned()], quoted: true, at })
    }

    fn word(&mut self, place: Place) -> Result<Literal, Fault> {
        let at = self.at;
        let belongs = |(index, sign): (usize, char)| match sign {
            '.' => place == Place::Value,
            ':' => place == Place::Value && index > 0,
            '(' | ')' | ',' | '"' | '\'' | '`' | '=' | '<' | '>' | '!' => false,
            _ => !sign.is_whitespace(),
        };
        let rest = self.rest();
        let length = rest.char_indices().find(|found| !belongs(*found));
        let word = &rest[..length.map_or(rest.len(), |(index, _)| index)];
        if word.is_empty() {
            return Err(self.unexpected("a field, a value or a text in quotes"));
        }
        if let Some(sign) = word.find(['&', '|', '\\']) {
            return Err(Fault::new(
                at + sign,
                "`&`, `|` and `\\` stand in quotes only; write AND or OR to combine",
            ));
        }
        self.at += word.len();
        Ok(Literal { parts: word.split('*').map(str::to_owned).collect(), quoted: false, at })
    }

    /// The fault that something else comes next than `wanted`.
    pub fn unexpected(&self, wanted: &str) -> Fault {
        let description = match self.peek() {
            None => format!("the filter ends where {wanted} should follow"),
            Some(found) => format!("`{found}` stands where {wanted} should"),
        };
        Fault::new(self.at, description)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
}
