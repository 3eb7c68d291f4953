//! How amounts are written in a configuration: sizes ("4 MiB") and durations ("30s").

use std::{fmt, str::FromStr, time::Duration};

use jiff::SignedDuration;

/// A number of bytes. Written as a whole number, alone or with B, KiB, MiB or GiB after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

/// A length of time. Written with its units: `500ms`, `30s`, `1m 30s`, `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    /// So many KiB.
    pub const fn kib(count: usize) -> Self {
        Self(count << 10)
    }

    /// So many MiB.
    pub const fn mib(count: usize) -> Self {
        Self(count << 20)
    }
}

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let factor = match unit {
            "" => 1,
            _ => UNITS.iter().find(|(name, _)| *name == unit).ok_or(())?.1,
        };
        count.parse::<usize>().ok().and_then(|n| n.checked_mul(factor)).map(Self).ok_or(())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, usize)| self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        match self.0 {
            0 => f.write_str("0 B"),
            bytes => write!(f, "{} {unit}", bytes / factor),
        }
    }
}

impl Span {
    /// So many milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// So many seconds.
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl FromStr for Span {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let span: SignedDuration = text.trim().parse().map_err(|_| ())?;
        Duration::try_from(span).map(Self).map_err(|_| ())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            _ if !millis.is_multiple_of(1000) => write!(f, "{millis}ms"),
            _ if millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
            _ => write!(f, "{}s", millis / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_written_as_it_is_read() {
        for (text, bytes) in
            [("1 B", 1), ("64 KiB", 65_536), ("4 MiB", 4 << 20), ("3 GiB", 3 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)));
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!("4MiB".parse(), Ok(Size::mib(4)));
        assert_eq!("1024".parse(), Ok(Size::kib(1)));
        for bad in ["", "MiB", "-1", "4 MB", "1.5 MiB", "99999999999999999999", "99999999999 GiB"] {
            assert_eq!(bad.parse::<Size>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn a_span_is_written_as_it_is_read() {
        for (text, span) in [
            ("500ms", Span::millis(500)),
            ("30s", Span::secs(30)),
            ("5m", Span::secs(300)),
            ("24h", Span::secs(86_400)),
        ] {
            assert_eq!(text.parse(), Ok(span));
            assert_eq!(span.to_string(), text);
        }
        assert_eq!("1m 30s".parse(), Ok(Span::secs(90)));
        for bad in ["", "30", "-5s", "soon", "5 parsecs"] {
            assert_eq!(bad.parse::<Span>(), Err(()), "{bad}");
        }
    }
}
