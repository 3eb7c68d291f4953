//! ejabberd, by the HTTP API of its `mod_http_api` on a loopback port.

use std::{io, time::SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{Command, seconds};

/// The most bytes of an answer: a thousand partners with sessions take a tenth of it.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// The way to an ejabberd on this machine.
#[derive(Debug)]
pub struct Ejabberd {
    api: Uri,
}

impl Ejabberd {
    /// The one whose API is at `http://HOST:PORT`.
    pub const fn new(api: Uri) -> Self {
        Self { api }
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
        let path = match command {
            Command::Apply => "/api/s2s_partners_apply",
            Command::Status => "/api/s2s_partners_status",
        };
        let body = serde_json::json!({ "heard": heard.map_or(0, seconds) }).to_string();
        let (status, body) = self.post(path, body).await.map_err(|error| {
            let api = &self.api;
            format!("ejabberd cannot be reached at {api}: {error}; does it run, with mod_http_api?")
        })?;
        match status {
            StatusCode::OK => answer_in(&body)
                .ok_or_else(|| "ejabberd answers something else than its module would".into()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(format!("ejabberd refuses the agent ({status}); let it in by api_permissions"))
            }
            _ => Err(format!(
                "ejabberd does not know the module mod_s2s_partners ({status}); install it and \
                 list it in `modules`"
            )),
        }
    }

    async fn post(&self, path: &str, body: String) -> io::Result<(StatusCode, Bytes)> {
        let host = self.api.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.api.port_u16().unwrap_or(80))).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the sender.
        tokio::spawn(connection);
        let authority = self.api.authority().map_or("", |authority| authority.as_str());
        let request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
        let body = body.collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes()))
    }
}

/// The text inside what the API makes of a command's result: `{"res": TEXT}` in the first version of
/// the API, TEXT alone in later ones.
fn answer_in(body: &[u8]) -> Option<String> {
    match serde_json::from_slice(body).ok()? {
        Value::String(text) => Some(text),
        Value::Object(mut fields) => match fields.remove("res")? {
            Value::String(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_in_either_form() {
        for body in [r#""{}""#, r#"{"res":"{}"}"#] {
            assert_eq!(answer_in(body.as_bytes()).as_deref(), Some("{}"), "{body}");
        }
        assert_eq!(answer_in(b"0"), None);
    }
}
