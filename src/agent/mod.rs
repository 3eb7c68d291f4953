//! The agent: one process beside an XMPP server that makes the server obey the service.
//!
//! It follows the service with the [`Informer`], renders what it sees (`Roster`), hands it to its
//! `Target`, waits for the server's answer, and reports that answer to the service. One change at
//! a time is under way: what comes meanwhile is put in force together with the next, so a burst
//! costs as few applications as the server can take, and a change on its own waits for nothing.
//!
//! It fails closed. Without the service the server keeps what it has, until its lease runs out;
//! nothing that goes wrong here ever lets more in.

mod answer;
mod data_file;
mod line;
mod options;
mod report;
mod roster;
mod target;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

pub use answer::Answer;
use options::Options;
pub use options::{AgentArgs, FormName, Kind, OptionsError};
use report::{Progress, Reporter};
use roster::Roster;
use target::{Reply, Target};

use crate::{
    client::{Delta, Informer, Update},
    systemd,
};

/// How long to wait before a server that could not be reached is tried again, at first.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// And at last.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How often an age that alarms is logged again.
const ALARM_AGAIN: Duration = Duration::from_secs(60);

/// One XMPP server and what it is to obey.
pub struct Agent {
    informer: Informer,
    reporter: Reporter,
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Done>,
    options: Options,
    /// What the service wants, once the agent has seen all of it.
    wanted: Option<Roster>,
    /// Why what the service wants cannot be put in force, while it cannot.
    broken: Option<String>,
    /// The revision that was handed over last.
    handed: Option<i64>,
    /// What changed since the last application was begun.
    touched: Touched,
    work: Work,
    /// When to try again after a refusal or a silence.
    retry: Option<Instant>,
    pause: Duration,
    started: Instant,
    alarmed: Option<Instant>,
}

/// What the target is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Nothing,
    Applying,
    Asking,
}

/// What changed since the last application was begun.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Primary domains of partners.
    pub partners: BTreeSet<Arc<str>>,
    /// Whether anything changed at all, the settings included.
    pub any: bool,
    /// Whether the change cannot be told partner by partner: everything is to be handed over.
    pub everything: bool,
}

/// What a target is told to do.
#[derive(Debug)]
enum Job {
    Apply { roster: Roster, touched: Touched, heard: Option<SystemTime> },
    Ask { heard: Option<SystemTime> },
}

/// What came of it.
#[derive(Debug)]
struct Done {
    /// What was handed over; `None` if the server was only asked.
    applied: Option<i64>,
    /// The server's answer, or why there is none.
    reply: Result<Reply, String>,
}

impl Agent {
    /// An agent with these options, which has checked all that can be checked at once.
    ///
    /// # Errors
    /// [`OptionsError`] with every option that is missing or wrong.
    pub fn new(args: &AgentArgs) -> Result<Self, OptionsError> {
        let options = Options::of(args)?;
        let target = Target::of(&options)?;
        let (jobs, inbox) = mpsc::channel(1);
        let (outbox, done) = mpsc::channel(1);
        tokio::spawn(work(target, inbox, outbox));
        Ok(Self {
            informer: Informer::new(options.remote.clone(), options.stream.clone()),
            reporter: Reporter::start(&options),
            jobs,
            done,
            options,
            wanted: None,
            broken: None,
            handed: None,
            touched: Touched::default(),
            work: Work::Nothing,
            retry: None,
            pause: FIRST_RETRY,
            started: Instant::now(),
            alarmed: None,
        })
    }

    /// Follows the service until it is told to stop. What is under way then is finished.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut asking = regular(self.options.status_interval);
        let mut living = regular(systemd::watchdog_interval().unwrap_or(Duration::from_secs(60)));
        systemd::ready();
        loop {
            self.begin_application();
            tokio::select! {
                () = &mut stop => break,
                update = self.informer.next() => self.take(update),
                done = self.done.recv() => match done {
                    Some(done) => self.take_answer(done),
                    // Whoever watches over this process starts it anew.
                    None => {
                        tracing::error!("what drives the server has failed; ending");
                        break;
                    }
                },
                () = until(self.retry) => self.retry = None,
                () = self.reporter.history_lost() => self.begin_anew(),
                _ = asking.tick() => self.ask(),
                _ = living.tick() => self.live(),
            }
        }
        systemd::stopping();
        if self.work != Work::Nothing
            && let Some(done) = self.done.recv().await
        {
            self.take_answer(done);
        }
        self.reporter.finish().await;
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Opened => tracing::info!("following the service"),
            Update::Changed(delta) => self.take_change(&delta),
            Update::InStep { revision } => self.take_progress(revision),
            Update::Interrupted(interruption) => {
                let cause = interruption.cause.to_string();
                let retry_in = interruption.retry_in.as_secs_f64();
                tracing::warn!(cause, retry_in, "cut off; what is in force stays in force");
            }
        }
    }

    fn take_change(&mut self, delta: &Delta) {
        let Some(state) = self.informer.state() else { return };
        let revision = state.revision;
        let rendered = match self.wanted.as_ref().filter(|_| delta.base_revision.is_some()) {
            Some(before) => {
                let mut touched = std::mem::take(&mut self.touched);
                touched.note(delta);
                before.changed_by(delta, state).map(|after| (after, touched))
            }
            None => Roster::of(state).map(|whole| (whole, Touched::all())),
        };
        match rendered {
            Ok((roster, touched)) => {
                tracing::debug!(revision, "the service has something new");
                (self.wanted, self.touched) = (Some(roster), touched);
                (self.broken, self.retry) = (None, None);
            }
            Err(why) => self.give_up(revision, why),
        }
    }

    /// What the service wants cannot be put in force. The server keeps what it has, the service is
    /// told why, and the next change that can be used is handed over with all that came before it.
    fn give_up(&mut self, revision: i64, why: String) {
        tracing::error!(revision, why, "what the service sends cannot be put in force");
        self.reporter.rejected(revision, why.clone());
        self.broken = Some(why);
        (self.wanted, self.handed, self.touched) = (None, None, Touched::default());
    }

    /// A revision that changes nothing here is in force as soon as it is known.
    fn take_progress(&mut self, revision: i64) {
        if let Some(wanted) = &mut self.wanted {
            wanted.set_generation(revision);
            if self.work == Work::Nothing && !self.touched.any {
                self.reporter.note(Progress::of(wanted));
            }
        }
        self.reporter.heard(self.informer.last_contact());
    }

    fn begin_application(&mut self) {
        if self.work != Work::Nothing || !self.touched.any || self.retry.is_some() {
            return;
        }
        let Some(wanted) = &self.wanted else { return };
        let touched = std::mem::take(&mut self.touched);
        self.handed = Some(wanted.generation());
        let job = Job::Apply { roster: wanted.clone(), touched, heard: self.heard() };
        self.start(job, Work::Applying);
    }

    fn ask(&mut self) {
        if self.work == Work::Nothing {
            let job = Job::Ask { heard: self.heard() };
            self.start(job, Work::Asking);
        }
    }

    fn start(&mut self, job: Job, work: Work) {
        // There is room: one job at a time is under way.
        if self.jobs.try_send(job).is_ok() {
            self.work = work;
        }
    }

    fn take_answer(&mut self, Done { applied, reply }: Done) {
        self.work = Work::Nothing;
        self.reporter.heard(self.informer.last_contact());
        match reply {
            Ok(reply) => self.judge(applied, reply),
            Err(why) => {
                tracing::warn!(why, "the server cannot be told");
                self.refused(why);
            }
        }
    }

    /// Compares what the server says with what it was told.
    fn judge(&mut self, applied: Option<i64>, Reply { mut answer, in_step }: Reply) {
        let refusal = answer.error.clone();
        answer.error = refusal.clone().or_else(|| self.broken.clone());
        if let Some(generation) = applied {
            let (in_force, closed) = (answer.generation, answer.closed);
            tracing::info!(generation, in_force, closed, refusal, "told the server");
        }
        self.reporter.answered(answer, applied.is_some(), self.progress(in_step));
        match refusal {
            Some(why) => self.refused(why),
            None if in_step => self.pause = FIRST_RETRY,
            // The server was started anew, or somebody else wrote its file.
            None if self.handed.is_some() && !self.touched.any => {
                tracing::warn!("the server has another set than it was told; telling it again");
                self.touched = Touched::all();
                if applied.is_some() {
                    self.try_later();
                }
            }
            None => {}
        }
    }

    /// What is in force, if that is what was handed over last.
    fn progress(&self, in_step: bool) -> Option<Progress> {
        let wanted = self.wanted.as_ref().filter(|_| in_step)?;
        let progress = Progress::of(wanted);
        // What came since is not in force yet.
        Some(if self.touched.any { progress.at(self.handed?) } else { progress })
    }

    fn refused(&mut self, why: String) {
        let Some(handed) = self.handed else { return };
        self.reporter.rejected(handed, why);
        self.touched = Touched::all();
        self.try_later();
    }

    fn try_later(&mut self) {
        self.retry = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LAST_RETRY);
    }

    /// The service was restored from a backup: what it has now is not what was followed.
    fn begin_anew(&mut self) {
        tracing::warn!("the service has another history now; reading everything anew");
        let Options { remote, stream, .. } = &self.options;
        self.informer = Informer::new(remote.clone(), stream.clone());
        (self.wanted, self.handed, self.touched) = (None, None, Touched::default());
        self.reporter.forget_revision();
    }

    /// Signs of life to whoever watches over this process, and of the age of what it knows.
    fn live(&mut self) {
        systemd::alive();
        let age = self.informer.last_contact().unwrap_or(self.started).elapsed();
        if age <= self.options.age_alarm {
            self.alarmed = None;
            return;
        }
        if self.alarmed.is_none_or(|last| last.elapsed() >= ALARM_AGAIN) {
            let age = age.as_secs();
            tracing::error!(age, "nothing heard from the service for long; its last word holds");
            self.alarmed = Some(Instant::now());
        }
    }

    /// When the service was last heard, by the clock on the wall.
    fn heard(&self) -> Option<SystemTime> {
        let contact = self.informer.last_contact()?;
        SystemTime::now().checked_sub(contact.elapsed())
    }
}

impl Touched {
    fn all() -> Self {
        Self { partners: BTreeSet::new(), any: true, everything: true }
    }

    fn note(&mut self, delta: &Delta) {
        let upserts = delta.upserts.iter().map(|partner| line::domain(partner).into());
        self.partners.extend(upserts.chain(delta.removals.iter().cloned()));
        self.any |= delta.settings_changed || !self.partners.is_empty();
    }
}

/// Does one job after the other, so that what waits for a disk or a server keeps nobody else waiting.
async fn work(mut target: Target, mut jobs: mpsc::Receiver<Job>, done: mpsc::Sender<Done>) {
    while let Some(job) = jobs.recv().await {
        let outcome = match job {
            Job::Apply { roster, touched, heard } => Done {
                applied: Some(roster.generation()),
                reply: target.apply(roster, touched, heard).await,
            },
            Job::Ask { heard } => Done { applied: None, reply: target.ask(heard).await },
        };
        if done.send(outcome).await.is_err() {
            return;
        }
    }
}

fn regular(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What is rendered, or why it cannot be, for people.
type Rendered<T> = Result<T, String>;
