//! What a copy of 50,000 partners takes: the most at any moment, from the first message of the state
//! to the last of a thousand changes. Measured in a process where nothing else happens.

use std::{collections::VecDeque, fs, process::Command};

use tokio::time::Instant;

use super::{added, changed, of, progress, synced};
use crate::{
    client::{Message, assembly::Assembly, state::State},
    proto::v1::{AllowedPartner, Negotiation, NegotiationMethod, WatchEvent},
};

const PARTNERS: usize = 50_000;
const CHANGES: i64 = 1_000;
/// The most a partner may take, the copy and all that it takes to make it.
const BYTES_PER_PARTNER: u64 = 3_000;

const MEASURED: &str = "client::tests::memory::measured_in_a_process_of_its_own";

#[test]
fn a_copy_of_50_000_partners_is_made_and_kept_within_its_bounds() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([MEASURED, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let taken = text.lines().find_map(|line| line.split_once("took ")?.1.parse::<u64>().ok());
    let per_partner = taken.expect("it says what it took") / u64::try_from(PARTNERS).unwrap();
    assert!(per_partner < BYTES_PER_PARTNER, "{per_partner} bytes for each partner");
}

#[test]
#[ignore = "measures its process, so it runs alone, started by the test above"]
fn measured_in_a_process_of_its_own() {
    let before = peak();
    let (mut assembly, mut ready) = (Assembly::new(0), VecDeque::new());
    let mut state = State::default();
    for chunk in (0..PARTNERS).collect::<Vec<_>>().chunks(512) {
        let events: Vec<_> = chunk.iter().map(|number| usual(added(7, &domain(*number)))).collect();
        assembly.take(&of(&events), Instant::now(), &mut ready).unwrap();
    }
    assembly.take(&synced(7), Instant::now(), &mut ready).unwrap();
    for revision in 8..8 + CHANGES {
        let event = usual(changed(revision, &domain(usize::try_from(revision).unwrap()), "new"));
        assembly.take(&of(&[event]), Instant::now(), &mut ready).unwrap();
        assembly.take(&progress(revision), Instant::now(), &mut ready).unwrap();
        for message in ready.drain(..) {
            match message {
                Message::Listed(listing) => state = State::of_listing(&listing),
                Message::Changed(batch) => _ = state.apply(batch),
                _ => {}
            }
        }
    }
    assert_eq!((state.partners.len(), state.revision), (PARTNERS, 7 + CHANGES));
    println!("took {}", peak() - before);
}

fn domain(number: usize) -> String {
    format!("partner-{number}.example")
}

/// An event about a partner with what most have.
fn usual(mut event: WatchEvent) -> WatchEvent {
    let domain = event.name.replace("allowedPartners/", "");
    if let Some(partner) = &mut event.allowed_partner {
        *partner = AllowedPartner {
            uid: "0c8d7a5e-6f0b-4a3d-9c1e-2b7f8d9e0a1b".into(),
            description: "A partner with a description of the usual length".into(),
            additional_domains: vec![format!("eu.{domain}"), format!("us.{domain}")],
            tls_negotiation: Negotiation::Required.into(),
            sasl_negotiation: Negotiation::Required.into(),
            negotiation_methods: vec![NegotiationMethod::SaslOverTls.into()],
            creator: "somebody@example.com".into(),
            updater: "somebody@example.com".into(),
            etag: "3e8-0c8d7a5e".into(),
            labels: [("tier".into(), "gold".into())].into(),
            ..std::mem::take(partner)
        };
    }
    event
}

/// The most memory that this process has had at any moment, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
