//! The one writer: a thread that decides writes one after the other and makes them durable in
//! groups.
//!
//! It takes every write that waits, lets each decide on a [`Draft`] of the state left by the one
//! before, hands all that came of it to the store in one group, and only then publishes the new
//! snapshot and answers everybody. A write that fails leaves no trace in the group. When the
//! store fails, nobody is told that his write succeeded, and no further write is taken.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::JoinHandle,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    Current, Error, Kind, Options, Snapshot, audit,
    draft::{Draft, Outcome},
    log::{Entry, Mark},
    replies::{Replies, Reply},
    retention,
};
use crate::{
    auth::shares::{Share, Shares},
    domain::{
        Revision, Violation,
        audit::{Actor, AuditEntry, ChainHead, Checkpoint, Event},
    },
    store::{
        Answer, AnswerResult, Commit, Compacted, ReplicaWrite, RequestKey, Store, StoreError, Write,
    },
};

/// How long the answer to a request is kept for its retries (AIP-155).
const ANSWER_TTL: SignedDuration = SignedDuration::from_hours(24);

/// The most writes that become durable together. Larger groups gain nothing in throughput and
/// cost the first of the group its time.
const MAX_GROUP: usize = 128;

/// A group that changes this many resources is written before the next write is decided, so that
/// large batches do not add up to one that takes seconds.
const MAX_GROUP_CHANGES: usize = 2_000;

/// So many entries of the audit follow a checkpoint at most, give or take a group.
const MOST_UNSEALED: u64 = 1_000;

/// A request that may be retried: the id that its caller gave it and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The id, a UUID4.
    pub id: Uuid,
    /// A SHA-256 of the method and the content.
    pub fingerprint: [u8; 32],
}

/// What came of a write.
#[derive(Clone, Debug)]
pub struct Committed<T> {
    /// What the use case gives back.
    pub result: T,
    /// The revision at which the result holds.
    pub revision: Revision,
}

/// Decides a write on a draft. May be asked again on a later state.
pub(super) type Work = Box<dyn Fn(&mut Draft<'_>) -> Result<AnswerResult, Error> + Send>;

enum Message {
    Job(Job),
    Keep(Keep),
    ForgetAnswers(oneshot::Sender<Result<usize, Error>>),
    Record(Vec<(Actor, Event)>, oneshot::Sender<Result<(), Error>>),
    Seal(oneshot::Sender<Result<Checkpoint, Error>>),
    Compact(Revision, oneshot::Sender<Result<Revision, Error>>),
    CompactAudit { last: ChainHead, count: u64, reply: oneshot::Sender<Result<(), Error>> },
    Close,
}

struct Job {
    actor: Actor,
    request: Option<Request>,
    work: Work,
    reply: Reply,
    /// What its subject takes of the queue, while it is there.
    share: Share,
}

/// Replicas to be kept or forgotten, with the group that is written next, and what the audit says
/// of it, if anything.
struct Keep {
    replicas: Vec<ReplicaWrite>,
    event: Option<(Actor, Event)>,
    reply: oneshot::Sender<Result<(), Error>>,
}

/// Tells when what was handed to the writer is on the disk.
#[derive(Debug)]
pub(super) struct Saved(oneshot::Receiver<Result<(), Error>>);

impl Saved {
    /// Waits until it is.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] if the store failed; [`Kind::Draining`] when the server goes away.
    pub(super) async fn wait(self) -> Result<(), Error> {
        self.0.await.unwrap_or_else(|_| Err(Kind::Draining.into()))
    }
}

/// The way to the writer's thread.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Message>,
    /// So that one subject's writes leave room in the queue for the others'.
    shares: Shares,
    current: Arc<Current>,
    options: Arc<Options>,
    failure: Arc<OnceLock<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(
        store: Arc<dyn Store>,
        current: Arc<Current>,
        head: ChainHead,
        options: Options,
    ) -> Self {
        let (queue, inbox) = mpsc::channel(options.write_queue_length.max(1));
        let shares = Shares::new(options.write_queue_share.max(1));
        let options = Arc::new(options);
        let failure = Arc::new(OnceLock::new());
        let desk = Desk {
            store,
            current: Arc::clone(&current),
            options: Arc::clone(&options),
            failure: Arc::clone(&failure),
            head,
            sealed: None,
        };
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || desk.serve(inbox))
            .expect("the system lets a server start one thread");
        Self { queue, shares, current, options, failure, thread: Mutex::new(Some(thread)) }
    }

    /// Lets `work` decide on the state and waits until what came of it is on the disk.
    ///
    /// # Errors
    /// What `work` reports; [`Kind::Overloaded`] and [`Kind::SubjectOverloads`] if too many writes
    /// wait, of all or of this subject; [`Kind::ReadOnly`] once
    /// the store has failed; [`Kind::Draining`] when the server goes away.
    pub(super) async fn commit(
        &self,
        actor: Actor,
        request: Option<Request>,
        work: Work,
    ) -> Result<Committed<AnswerResult>, Error> {
        self.refuse_if_failed()?;
        let share = self.shares.take(&actor.issuer, &actor.subject);
        let share = share.ok_or(Kind::SubjectOverloads { most: self.shares.most() })?;
        let (reply, answer) = Reply::here();
        self.send(Message::Job(Job { actor, request, work, reply, share }))?;
        answer.await.unwrap_or_else(|_| Err(Kind::Draining.into()))
    }

    /// Hands replicas to the writer, which takes what it is handed in that order. With them goes
    /// what somebody did to them, for the audit.
    ///
    /// # Errors
    /// As for [`Writer::commit`].
    pub(super) fn keep(
        &self,
        replicas: Vec<ReplicaWrite>,
        event: Option<(Actor, Event)>,
    ) -> Result<Saved, Error> {
        self.refuse_if_failed()?;
        let (reply, saved) = oneshot::channel();
        self.send(Message::Keep(Keep { replicas, event, reply }))?;
        Ok(Saved(saved))
    }

    /// Lets `work` decide on the state and throws the outcome away, but for what it gives back.
    pub(super) fn preview(
        &self,
        actor: &Actor,
        work: &Work,
    ) -> Result<Committed<AnswerResult>, Error> {
        let base = self.current.snapshot.load_full();
        let mut draft = Draft::after(&base, Timestamp::now(), actor, &self.options.local_domains);
        let result = work(&mut draft)?;
        Ok(Committed { result, revision: base.revision() })
    }

    pub(super) async fn forget_answers(&self) -> Result<usize, Error> {
        self.refuse_if_failed()?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::ForgetAnswers(reply))?;
        answer.await.unwrap_or_else(|_| Err(Kind::Draining.into()))
    }

    /// Chains events of no commit, and waits until they are on the disk.
    pub(super) async fn record(&self, events: Vec<(Actor, Event)>) -> Result<(), Error> {
        self.refuse_if_failed()?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Record(events, reply))?;
        answer.await.unwrap_or_else(|_| Err(Kind::Draining.into()))
    }

    /// Signs the end of the audit chain, unless it is signed.
    pub(super) async fn seal(&self) -> Result<Checkpoint, Error> {
        self.refuse_if_failed()?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Seal(reply))?;
        answer.await.unwrap_or_else(|_| Err(Kind::Draining.into()))
    }

    /// Removes commits before `before` from the log, a step of them. Returns the oldest one left.
    pub(super) async fn compact(&self, before: Revision) -> Result<Revision, Error> {
        self.refuse_if_failed()?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Compact(before, reply))?;
        answer.await.unwrap_or_else(|_| Err(Kind::Draining.into()))
    }

    /// Removes the `count` oldest audit entries, the last of them `last`, and chains a signed entry
    /// that says so.
    pub(super) async fn compact_audit(&self, last: ChainHead, count: u64) -> Result<(), Error> {
        self.refuse_if_failed()?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::CompactAudit { last, count, reply })?;
        answer.await.unwrap_or_else(|_| Err(Kind::Draining.into()))
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    pub(super) async fn close(&self) {
        // Fails only if the thread has ended already.
        let _ = self.queue.send(Message::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the writer's thread ended by a panic");
        }
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Kind::Overloaded.into(),
            mpsc::error::TrySendError::Closed(_) => Kind::Draining.into(),
        })
    }

    fn refuse_if_failed(&self) -> Result<(), Error> {
        match self.failure() {
            Some(reason) => Err(Kind::ReadOnly { reason }.into()),
            None => Ok(()),
        }
    }
}

/// What the writer's thread works with.
struct Desk {
    store: Arc<dyn Store>,
    current: Arc<Current>,
    options: Arc<Options>,
    failure: Arc<OnceLock<String>>,
    head: ChainHead,
    /// The last checkpoint, and the end of the chain with it.
    sealed: Option<(Checkpoint, ChainHead)>,
}

/// A group in the making: what is to be written, and who is to be told.
struct Group {
    snapshot: Snapshot,
    head: ChainHead,
    changes: usize,
    writes: Vec<Write>,
    marks: Vec<Mark>,
    answers: HashMap<RequestKey, Answer>,
    replies: Replies,
    kept: Vec<oneshot::Sender<Result<(), Error>>>,
}

impl Desk {
    fn serve(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(MAX_GROUP);
        while inbox.blocking_recv_many(&mut messages, MAX_GROUP) > 0 {
            let mut jobs = Vec::with_capacity(messages.len());
            let mut keeps = Vec::new();
            for message in messages.drain(..) {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Keep(keep) => keeps.push(keep),
                    Message::ForgetAnswers(reply) => {
                        let forgotten = self.store.forget_answers(Timestamp::now());
                        let _ = reply.send(forgotten.map_err(|error| self.failed(&error)));
                    }
                    Message::Compact(before, reply) => {
                        let _ = reply.send(self.compact(before));
                    }
                    Message::CompactAudit { last, count, reply } => {
                        let _ = reply.send(self.compact_audit(last, count));
                    }
                    Message::Record(events, reply) => drop(reply.send(self.chain(events))),
                    Message::Seal(reply) => drop(reply.send(self.seal())),
                    // What is in the inbox by now is still served.
                    Message::Close => inbox.close(),
                }
            }
            self.serve_group(jobs, keeps);
            self.seal_if_due(MOST_UNSEALED);
        }
        self.seal_if_due(1);
    }

    /// Signs the end of the chain if so many entries follow the last checkpoint.
    fn seal_if_due(&mut self, entries: u64) {
        let sealed = self.sealed.map_or(0, |(_, head)| head.sequence);
        if self.failure.get().is_none()
            && self.head.sequence >= sealed + entries
            && let Err(error) = self.seal()
        {
            tracing::error!(?error, "the audit could not be signed");
        }
    }

    fn seal(&mut self) -> Result<Checkpoint, Error> {
        if let Some((checkpoint, head)) = self.sealed
            && head == self.head
        {
            return Ok(checkpoint);
        }
        let checkpoint = self.options.audit_key.sign(self.head, Timestamp::now());
        self.chain(vec![(Actor::service(""), Event::Checkpoint(checkpoint))])?;
        self.sealed = Some((checkpoint, self.head));
        Ok(checkpoint)
    }

    fn chain(&mut self, events: Vec<(Actor, Event)>) -> Result<(), Error> {
        if let Some(reason) = self.failure.get() {
            return Err(Kind::ReadOnly { reason: reason.clone() }.into());
        }
        let (now, revision) = (Timestamp::now(), self.current.snapshot.load().revision());
        let mut head = self.head;
        let entries = events.into_iter().map(|(actor, event)| {
            let entry = AuditEntry::after(head, now, actor, revision, event);
            head = entry.head();
            entry
        });
        let write = Write { entries: entries.collect(), ..Write::default() };
        self.store.write(&[write]).map_err(|error| self.failed(&error))?;
        self.head = head;
        self.current.audit.send_replace(head);
        Ok(())
    }

    fn compact_audit(&mut self, last: ChainHead, count: u64) -> Result<(), Error> {
        if let Some(reason) = self.failure.get() {
            return Err(Kind::ReadOnly { reason: reason.clone() }.into());
        }
        let (now, revision) = (Timestamp::now(), self.current.snapshot.load().revision());
        let removal = self.options.audit_key.sign_removal(self.head, last, count, now);
        let (actor, event) = (Actor::service(""), Event::Retention(removal));
        let entry = AuditEntry::after(self.head, now, actor, revision, event);
        self.store.compact_audit(&entry).map_err(|error| self.failed(&error))?;
        self.head = entry.head();
        self.current.audit.send_replace(self.head);
        Ok(())
    }

    fn compact(&self, before: Revision) -> Result<Revision, Error> {
        let Compacted { oldest_revision, purged } =
            self.store.compact(before, retention::STEP).map_err(|error| self.failed(&error))?;
        let mut snapshot = Snapshot::clone(&self.current.snapshot.load());
        snapshot.forget(oldest_revision, &purged);
        // Nothing happened at a revision, so the bell does not ring.
        self.current.snapshot.store(Arc::new(snapshot));
        Ok(oldest_revision)
    }

    /// Remembers that the store has failed, so that no further write is taken.
    fn failed(&self, error: &StoreError) -> Error {
        let reason = error.to_string();
        if self.failure.set(reason.clone()).is_ok() {
            tracing::error!(error = reason, "the store failed; no more writes are taken");
        }
        Kind::ReadOnly { reason }.into()
    }

    fn serve_group(&mut self, jobs: Vec<Job>, keeps: Vec<Keep>) {
        let mut group = self.new_group();
        let now = Timestamp::now();
        for Keep { replicas, event, reply } in keeps {
            match self.failure.get() {
                Some(reason) => {
                    let _ = reply.send(Err(Kind::ReadOnly { reason: reason.clone() }.into()));
                }
                None => {
                    let entry = event.map(|(actor, event)| {
                        let revision = group.snapshot.revision();
                        AuditEntry::after(group.head, now, actor, revision, event)
                    });
                    group.head = entry.as_ref().map_or(group.head, AuditEntry::head);
                    let entries = entry.into_iter().collect();
                    group.writes.push(Write { entries, replicas, ..Write::default() });
                    group.kept.push(reply);
                }
            }
        }
        for job in jobs {
            if group.changes >= MAX_GROUP_CHANGES {
                self.finish(group);
                group = self.new_group();
            }
            // Nobody waits any more: the deadline passed before the write was decided.
            if job.reply.is_closed() {
                continue;
            }
            if let Some(reason) = self.failure.get() {
                job.reply.send(Err(Kind::ReadOnly { reason: reason.clone() }.into()));
                continue;
            }
            let Job { actor, request, work, reply, share } = job;
            drop(share);
            let decided = self.decide(&mut group, &actor, request, &work);
            // What it holds is free before anybody is answered: the place of a restore, for one.
            drop(work);
            match decided {
                Ok(committed) => group.replies.add(reply, Ok(committed)),
                Err(error) => reply.send(Err(error)),
            }
        }
        self.finish(group);
    }

    fn new_group(&self) -> Group {
        Group {
            snapshot: Snapshot::clone(&self.current.snapshot.load()),
            head: self.head,
            changes: 0,
            writes: Vec::new(),
            marks: Vec::new(),
            answers: HashMap::new(),
            replies: Replies::default(),
            kept: Vec::new(),
        }
    }

    fn decide(
        &self,
        group: &mut Group,
        actor: &Actor,
        request: Option<Request>,
        work: &Work,
    ) -> Result<Committed<AnswerResult>, Error> {
        let request = request.map(|request| (RequestKey::of(actor, request), request.fingerprint));
        if let Some((key, fingerprint)) = &request
            && let Some(answer) = self.earlier_answer(group, key)?
        {
            return repeat(answer, fingerprint);
        }
        let now = Timestamp::now();
        let mut draft = Draft::after(&group.snapshot, now, actor, &self.options.local_domains);
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut draft)))
            .unwrap_or_else(|_| Err(Kind::Internal("a write panicked".into()).into()))?;
        let mut write = Write::default();
        if let Some(Outcome { changes, snapshot, events }) = draft.finish() {
            let revision = snapshot.revision();
            let of_commit = audit::pages(audit::resource_changes(&changes));
            let of_commit = of_commit.into_iter().map(|changes| Event::Commit { changes });
            let mut entries = of_commit.chain(events).map(|event| {
                let entry = AuditEntry::after(group.head, now, actor.clone(), revision, event);
                group.head = entry.head();
                entry
            });
            let first = entries.next();
            write.entries = entries.collect();
            group.marks.push(Mark::between(&group.snapshot, &snapshot));
            group.snapshot = snapshot;
            group.changes += changes.len();
            let commit = Commit { revision, time: now, actor: actor.clone(), changes };
            write.commit = first.map(|entry| (commit, entry));
        }
        let revision = group.snapshot.revision();
        write.answer = request.map(|(key, fingerprint)| Answer {
            key,
            fingerprint,
            expire_time: now.saturating_add(ANSWER_TTL).unwrap_or(Timestamp::MAX),
            revision,
            result: result.clone(),
        });
        if let Some(answer) = &write.answer {
            group.answers.insert(answer.key.clone(), answer.clone());
        }
        if write.commit.is_some() || write.answer.is_some() {
            group.writes.push(write);
        }
        Ok(Committed { result, revision })
    }

    fn earlier_answer(&self, group: &Group, key: &RequestKey) -> Result<Option<Answer>, Error> {
        if let Some(answer) = group.answers.get(key) {
            return Ok(Some(answer.clone()));
        }
        let kept = self.store.answer(key)?;
        Ok(kept.filter(|answer| answer.expire_time > Timestamp::now()))
    }

    fn finish(&mut self, mut group: Group) {
        if !group.writes.is_empty() {
            if let Err(error) = self.store.write(&group.writes) {
                group.replies.fail(|| self.failed(&error));
                group.replies.send();
                for reply in group.kept {
                    let _ = reply.send(Err(self.failed(&error)));
                }
                return;
            }
            self.head = group.head;
            // Answers and replicas alone are no news to those who read and watch.
            if !group.marks.is_empty() {
                self.current.publish(group.snapshot, Entry::of_group(group.writes, group.marks));
            }
            // After the snapshot: who hears of an entry goes by the roles that it left.
            self.current.audit.send_replace(group.head);
        }
        group.replies.send();
        for reply in group.kept {
            let _ = reply.send(Ok(()));
        }
    }
}

impl RequestKey {
    fn of(actor: &Actor, request: Request) -> Self {
        Self {
            issuer: Arc::clone(&actor.issuer),
            subject: Arc::clone(&actor.subject),
            id: request.id,
        }
    }
}

/// The answer given to the first request, if this one is its retry.
fn repeat(answer: Answer, fingerprint: &[u8; 32]) -> Result<Committed<AnswerResult>, Error> {
    if answer.fingerprint != *fingerprint {
        return Err(Error::invalid(Violation::new(
            "request_id",
            "this id was used for another request within the last 24 hours; make a new UUID4",
        )));
    }
    Ok(Committed { result: answer.result, revision: answer.revision })
}
