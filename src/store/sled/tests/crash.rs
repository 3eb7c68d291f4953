//! kill -9 in the middle of writing, compacting and trimming the audit, and what is there afterwards.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use super::TempStore;
use crate::{
    domain::{
        Revision,
        audit::{AuditEntry, Chain},
    },
    store::{
        Store, Write,
        conformance::{Place as _, model::Model},
        sled::{SledOptions, SledStore},
    },
};

const ROUNDS: u64 = 10;

/// So many audit entries are kept, and so many go at a time.
const KEPT: usize = 40;
const REMOVED: usize = 7;

/// What is done to a store next.
enum Move {
    Write(Vec<Write>),
    CompactAudit(Box<AuditEntry>),
}

/// The next move of a history that is the same each time, whoever plays it.
fn next_move(model: &mut Model) -> Move {
    if model.entries.len() > KEPT {
        return Move::CompactAudit(Box::new(model.compact_audit(REMOVED)));
    }
    let size = model.revision().get() % 6 + 1;
    Move::Write((0..size).map(|_| model.step()).collect())
}

/// The model at the move after which the audit reaches so far.
fn played_to(audit: Chain) -> Model {
    let mut model = Model::default();
    while model.audit_head().sequence < audit.head.sequence {
        next_move(&mut model);
    }
    model
}

/// Writes one history without end into the folder named on the standard input, and tells each
/// revision once it is acknowledged. Run by the test below, which ends it.
#[test]
#[ignore = "is a part of the test below"]
fn writer() {
    let mut folder = String::new();
    std::io::stdin().read_line(&mut folder).unwrap();
    let folder = PathBuf::from(folder.trim_end());
    if folder.as_os_str().is_empty() {
        return;
    }
    let store = SledStore::open(&folder, &SledOptions::default()).unwrap();
    let found = store.load().unwrap();
    let mut model = played_to(found.audit);
    model.compact(found.oldest_revision);
    loop {
        match next_move(&mut model) {
            Move::Write(group) => store.write(&group).unwrap(),
            Move::CompactAudit(statement) => store.compact_audit(&statement).unwrap(),
        }
        let before = Revision::new(model.revision().get().saturating_sub(20));
        model.compact(store.compact(before, 7).unwrap().oldest_revision);
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {}", model.revision()).unwrap();
        out.flush().unwrap();
    }
}

fn start_writer(place: &TempStore) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sled::tests::crash::writer", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", place.path().display()).unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// The revision a line of the writer's tells, if it is such a line and whole.
fn acknowledged(line: &str) -> Option<u64> {
    line.strip_suffix('\n')?.rsplit_once("acknowledged ")?.1.parse().ok()
}

#[test]
fn nothing_acknowledged_is_lost_and_no_group_is_torn_when_the_process_is_killed() {
    let place = TempStore::new();
    let (mut last, mut compacted, mut removed) = (0, 0, 0);
    for round in 0..ROUNDS {
        let (mut child, mut output) = start_writer(&place);
        // A different number of groups each round, and a kill that falls anywhere in the next one.
        let mut groups_to_see = 1 + (round * 7) % 12;
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            if let Some(revision) = acknowledged(&line) {
                last = last.max(revision);
                groups_to_see = groups_to_see.saturating_sub(1);
                if groups_to_see == 0 {
                    child.kill().unwrap();
                }
            }
            line.clear();
        }
        child.wait().unwrap();
        assert_eq!(groups_to_see, 0, "the writer ended by itself");

        let store = place.open();
        let state = store.load().unwrap();
        let found = state.revision.get();
        assert!(found >= last, "round {round}: {found} is there, {last} was acknowledged");
        let mut model = played_to(state.audit);
        assert_eq!(model.revision(), state.revision, "round {round}: a move is there in part");
        model.compact(state.oldest_revision);
        model.assert_is_in(store.as_ref());
        compacted = state.oldest_revision.get() - 1;
        removed = state.audit.base.sequence;
    }
    assert!(last >= ROUNDS, "only {last} were acknowledged");
    assert!(compacted > 0, "nothing was compacted meanwhile");
    assert!(removed > 0, "nothing was removed from the audit meanwhile");
}
