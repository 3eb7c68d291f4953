//! `partnerctl watch`, `audit watch` and `get --watch`, as people and scripts meet them.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout},
};

use crate::{
    cli::{Desk, Said},
    harness::process::{signal, start_partnerctl},
};

/// A command under way.
struct Command {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Command {
    fn start(desk: &Desk, line: &str) -> Self {
        let words: Vec<_> = line.split_whitespace().collect();
        let mut child = start_partnerctl(&desk.server.folder, &words);
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, out }
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("it prints text");
        line.trim_end().to_owned()
    }

    /// The lines up to the first with this word.
    fn until(&mut self, word: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.contains(word)) {
            let line = self.line();
            assert!(!line.is_empty(), "it ended before it said {word}: {lines:?}");
            lines.push(line);
        }
        lines
    }

    fn end(self, by: &str) -> Said {
        signal(self.child.id(), by);
        self.child.wait_with_output().expect("it was asked to end").into()
    }
}

/// Words of a table's line.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn watch_shows_changes_from_a_revision_to_another_and_goes_on_after_ctrl_c() {
    let desk = Desk::new();
    desk.run("new a.example");
    desk.run("new b.example");
    let from = desk.run("watch --from 1 --until-revision 2 -o ndjson");
    let event: serde_json::Value = serde_json::from_str(from.trim()).unwrap();
    assert_eq!(
        (&event["name"], &event["revision"]),
        (&"allowedPartners/b.example".into(), &"2".into())
    );

    let mut watch = Command::start(&desk, "watch --from 1");
    desk.run("set a.example --owner jo --reason CHG-7");
    desk.run("settings set --mode deny-all --yes");
    desk.run("remove b.example --yes");
    let lines = watch.until("removed");
    assert_eq!(words(&lines[0])[..4], ["TIME", "REVISION", "EVENT", "DOMAIN"]);
    assert_eq!(words(&lines[1])[1..4], ["2", "added", "b.example"]);
    let change = &lines[2];
    assert_eq!(words(change)[1..4], ["3", "modified", "a.example"]);
    assert!(change.contains("CHG-7") && change.contains("owner: jo"), "{change}");
    assert!(lines[3].contains("(settings)") && lines[3].contains("allow-listed -> deny-all"));
    assert!(lines[4].contains("b.example") && lines[4].contains("deleted"), "{lines:?}");
    let said = watch.end("INT");
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("--from 5"), "{}", said.err);
}

#[test]
fn watch_begins_now_unless_told_otherwise_and_ends_by_itself_when_told_to() {
    let desk = Desk::new();
    desk.run("new a.example");
    desk.run("new b.org");
    let quiet = desk.say("watch --for 1s");
    assert_eq!((quiet.code, quiet.out.as_str()), (0, ""), "{}", quiet.err);
    assert!(quiet.err.contains("--from 2"), "{}", quiet.err);
    let initial = desk.run("watch --initial --until-revision 2 -o name");
    let names = ["federationSettings", "allowedPartners/a.example", "allowedPartners/b.org"];
    assert_eq!(initial.lines().collect::<Vec<_>>(), names);
    let some = desk.run("watch '*.org' --initial --until-revision 2 -o name");
    assert_eq!(some, "allowedPartners/b.org\n");
}

#[test]
fn audit_watch_shows_entries_as_they_are_written_and_goes_on_after_ctrl_c() {
    let desk = Desk::new();
    desk.run("new a.example");
    let mut watch = Command::start(&desk, "audit watch --from 1");
    desk.run("set a.example --owner jo --reason CHG-7");
    let lines = watch.until("CHG-7");
    assert_eq!(words(&lines[0]), ["ENTRY", "TIME", "KIND", "SUBJECT", "WHAT", "REASON"]);
    assert_eq!(words(&lines[1])[..1], ["2"]);
    assert!(lines[2].contains("update allowedPartners/a.example (owner)"), "{}", lines[2]);
    let said = watch.end("INT");
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("--from 3"), "{}", said.err);

    let quiet = desk.say("audit watch --for 1s");
    assert_eq!((quiet.code, quiet.out.as_str()), (0, ""), "{}", quiet.err);
    assert!(quiet.err.contains("--from 3"), "it is told at once where now is: {}", quiet.err);
    let filtered = desk.run("audit watch --from 1 --filter changes.verb:UPDATE -o name --for 1s");
    assert_eq!(filtered, "auditEntries/3\n");
    for (line, code, words) in [
        ("audit watch --filter colour=blue", 6, "colour"),
        ("audit watch --from 0", 2, "--from"),
        ("audit watch --from 1 --endpoint https://127.0.0.1:1", 7, "cannot be reached"),
    ] {
        let said = desk.say(line);
        assert_eq!(said.code, code, "{line}: {}", said.err);
        assert!(said.err.contains(words), "{line}: {}", said.err);
    }
}

#[test]
fn get_watch_lists_and_then_follows() {
    let desk = Desk::new();
    desk.run("new a.example");
    let mut get = Command::start(&desk, "get --watch");
    let listed = get.until("a.example");
    assert_eq!(words(&listed[0])[..2], ["DOMAIN", "TYPE"]);
    desk.run("new b.example");
    let followed = get.until("b.example");
    assert_eq!(words(&followed[0])[..3], ["TIME", "REVISION", "EVENT"]);
    assert_eq!(get.end("TERM").code, 0);
    let refused = desk.say("get --watch -o csv");
    assert_eq!(refused.code, 2, "{}", refused.err);
}

#[test]
fn failures_of_a_watch_have_their_exit_codes() {
    let desk = Desk::new();
    desk.run("new a.example");
    for (line, code, word) in [
        ("watch --filter colour=blue", 6, "colour"),
        ("watch bad..com", 6, "bad..com"),
        ("watch --from 0", 2, "--from"),
        ("watch --from 1 --initial", 2, "--initial"),
        ("watch --token-command 'echo not.a.token'", 4, "--token-file"),
        ("watch --from 1 --endpoint https://127.0.0.1:1", 7, "cannot be reached"),
    ] {
        let said = desk.say(line);
        assert_eq!(said.code, code, "partnerctl {line}\n{}\n{}", said.out, said.err);
        assert!(said.err.contains(word), "partnerctl {line}\n{}", said.err);
    }
}

#[test]
fn a_watch_whose_reader_is_gone_ends_without_a_word() {
    let desk = Desk::new();
    desk.run("new a.example");
    let Command { child, out } = Command::start(&desk, "watch --from 1 -o ndjson");
    drop(out);
    desk.run("new b.example");
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[test]
fn a_lost_connection_is_told_and_ends_a_watch_that_is_not_to_connect_again() {
    let desk = Desk::new();
    desk.run("new a.example");
    let mut patient = Command::start(&desk, "watch --initial -o name");
    let mut impatient = Command::start(&desk, "watch --initial --no-reconnect -o name");
    for watch in [&mut patient, &mut impatient] {
        watch.until("a.example");
    }
    desk.server.signal("KILL");
    let said = Said::from(impatient.child.wait_with_output().unwrap());
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains("--from 1"), "{}", said.err);
    let mut told = BufReader::new(patient.child.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert!(line.contains("interrupted: ") && line.contains("trying again in"), "{line}");
    signal(patient.child.id(), "INT");
    assert_eq!(patient.child.wait().unwrap().code(), Some(0));
}

#[test]
fn kill_9_of_a_watch_in_a_loop_loses_nothing() {
    let desk = Desk::new();
    desk.run("new p1.example");
    let objects: String =
        (2..=40).map(|number| format!("{{\"name\": \"p{number}.example\"}}\n")).collect();
    let seen = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for object in objects.lines() {
                assert_eq!(desk.pipe(object, "set --yes --force").code, 0);
            }
        });
        let mut seen = vec![1];
        while seen.last() < Some(&40) {
            let from = format!("watch --from {} -o ndjson", seen.last().unwrap());
            let mut watch = Command::start(&desk, &from);
            for _ in 0..7.min(40 - seen.last().unwrap()) {
                let event: serde_json::Value = serde_json::from_str(&watch.line()).unwrap();
                seen.push(event["revision"].as_str().unwrap().parse::<i64>().unwrap());
            }
            watch.child.kill().unwrap();
            assert_eq!(watch.child.wait().unwrap().code(), None, "it was killed");
        }
        writing.join().unwrap();
        seen
    });
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
}
