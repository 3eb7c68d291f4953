//! Prosody, by the Unix socket of its `mod_admin_socket`.
//!
//! The protocol is an XML stream. A connection serves one command: it costs a tenth of a
//! millisecond, and a server that was started anew needs no special case.

use std::{fmt::Write as _, io, path::PathBuf, time::SystemTime};

use quick_xml::escape::unescape;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{Command, seconds};

const HEADER: &str = "<stream:stream xmlns='xmpp:prosody.im/admin' \
                      xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
const NAMESPACE: &str = "urn:partnerd:enforcer:1";

/// The most bytes of an answer: a thousand partners with sessions take a tenth of it.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// The way to a Prosody on this machine.
#[derive(Debug)]
pub struct Prosody {
    socket: PathBuf,
}

impl Prosody {
    /// The one that listens on this socket.
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Gives our module a command; its answer, as JSON.
    ///
    /// # Errors
    /// Why there is no answer, for people.
    pub(super) async fn command(
        &self,
        command: Command,
        heard: Option<SystemTime>,
    ) -> Result<String, String> {
        let text = self.exchange(&element(command, heard)).await.map_err(|error| {
            let socket = self.socket.display();
            format!(
                "Prosody cannot be reached at {socket}: {error}; does it run, with \
                 mod_admin_socket, and may this user open the socket?"
            )
        })?;
        answer_in(&text)
    }

    async fn exchange(&self, element: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("{HEADER}{element}").as_bytes()).await?;
        let mut received = Vec::new();
        while !is_complete(&received) {
            if received.len() > MAX_ANSWER_BYTES {
                return Err(io::Error::other("the answer has no end"));
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        // The answer is here; a farewell that does not get through changes nothing.
        let _ = stream.write_all(b"</stream:stream>").await;
        String::from_utf8(received).map_err(io::Error::other)
    }
}

fn element(command: Command, heard: Option<SystemTime>) -> String {
    let name = match command {
        Command::Apply => "apply",
        Command::Status => "status",
    };
    let mut element = format!("<{name} xmlns='{NAMESPACE}'");
    if let Some(heard) = heard {
        // Writing to a string cannot fail.
        let _ = write!(element, " heard='{}'", seconds(heard));
    }
    element.push_str("/>");
    element
}

fn is_complete(received: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(received, mark.as_bytes()).is_some();
    // Answers of others end otherwise, but our own is the only one with text worth waiting for.
    has("</answer>") || has("</repl-result>") || has("</stream:stream>")
}

fn answer_in(text: &str) -> Result<String, String> {
    let inside = text.split_once("<answer").and_then(|(_, rest)| {
        let (_, rest) = rest.split_once('>')?;
        rest.split_once("</answer>")
    });
    let Some((escaped, _)) = inside else {
        return Err(
            "Prosody does not know the module mod_s2s_partners; install it and load it on \
                    every host (modules_enabled)"
                .into(),
        );
    };
    unescape(escaped)
        .map(std::borrow::Cow::into_owned)
        .map_err(|error| format!("Prosody answers what is no XML: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_between_other_elements() {
        let text = "<stream:stream xmlns='a'><repl-output>x</repl-output>\
                    <answer xmlns='urn:partnerd:enforcer:1'>{&quot;a&quot;:&quot;&amp;&quot;}\
                    </answer>";
        assert_eq!(answer_in(text).as_deref(), Ok(r#"{"a":"&"}"#));
    }

    #[test]
    fn a_prosody_without_the_module_is_said_to_be_one() {
        let text = "<stream:stream><repl-result type='error'>no</repl-result>";
        assert!(is_complete(text.as_bytes()));
        assert!(answer_in(text).is_err_and(|why| why.contains("mod_s2s_partners")));
    }
}
