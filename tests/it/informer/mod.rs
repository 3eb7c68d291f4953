//! Following a real server: the informer, the event stream, and `partnerctl watch`.

mod command;
mod copy;
mod crashes;

use std::time::Duration;

use partnerd::{
    client::{Backoff, Informer, Options, Remote, TokenSource, Update, parse_endpoint},
    proto::v1::{AllowedPartner, ListAllowedPartnersRequest},
};

use crate::harness::actor::Actor;

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Options with which nothing takes long.
fn quick() -> Options {
    Options {
        progress_interval: Duration::from_secs(1),
        backoff: Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(100) },
        ..Options::default()
    }
}

/// A development server at this address, and the administrator's token.
fn remote(data: &std::path::Path, address: std::net::SocketAddr) -> Remote {
    Remote {
        endpoint: parse_endpoint(&format!("https://{address}")).unwrap(),
        ca_file: Some(data.join("ca.pem")),
        certificate: None,
        token: TokenSource::File(data.join("admin.token")),
        user_agent: "test/1",
    }
}

/// Every partner, as the service lists them.
async fn everything(actor: &Actor) -> Vec<AllowedPartner> {
    let mut partners = Vec::new();
    let mut request = ListAllowedPartnersRequest { page_size: 1_000, ..Default::default() };
    loop {
        let page = actor.list(request.clone()).await.unwrap();
        partners.extend(page.allowed_partners);
        if page.next_page_token.is_empty() {
            return partners;
        }
        request.page_token = page.next_page_token;
    }
}

/// Every partner, as the informer knows them.
fn copied(informer: &Informer) -> Vec<AllowedPartner> {
    let partners = &informer.state().expect("it is in step").partners;
    partners.values().map(|partner| AllowedPartner::clone(partner)).collect()
}

/// Goes on until the copy holds at `revision`; gives what was told on the way.
async fn until(informer: &mut Informer, revision: i64) -> Vec<Update> {
    let mut told = Vec::new();
    let in_step = async {
        while informer.state().is_none_or(|state| state.revision < revision) {
            told.push(informer.next().await);
        }
    };
    tokio::time::timeout(PATIENCE, in_step).await.expect("the service tells what happened");
    told
}
