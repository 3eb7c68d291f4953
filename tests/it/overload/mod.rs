//! More than the server can carry, and those who would have it carry nothing: it sheds, and goes
//! on for everybody else.

mod fairness;
mod five_times;
mod floods;
mod slow;

use std::time::Duration;

use tokio::time::timeout;

use crate::harness::{TestServer, actor::Actor, frames};

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short for a limit of the server, and long for a loopback connection.
const SOON: Duration = Duration::from_millis(300);

const GET: &str = "/xmpp.federation.v1.AllowedPartnerService/GetAllowedPartner";
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// What happens within patience.
async fn in_time<T>(event: impl Future<Output = T>) -> T {
    timeout(PATIENCE, event).await.expect("the server does something about it")
}

/// That the server serves those who behave, be it at the second attempt where a limit of the test
/// is short.
async fn still_serves(server: &TestServer) {
    let token = server.token("admin", &["admin"]);
    in_time(async {
        loop {
            if let Ok(channel) = server.connect_to(server.address()).await
                && Actor::new(channel, Some(token.clone())).describe().await.is_ok()
            {
                return;
            }
        }
    })
    .await;
}

/// A request for the health of the server, whole.
fn check(stream: u32) -> Vec<u8> {
    let head = frames::head(CHECK, None, &[]);
    let message = frames::message(&[]);
    [
        frames::frame(frames::HEADERS, frames::END_HEADERS, stream, &head),
        frames::frame(frames::DATA, frames::END_STREAM, stream, &message),
    ]
    .concat()
}
