//! `partnerctl revoke` and `partnerctl revocation`.

use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::{
    client::request_id,
    console,
    failure::Outcome,
    json::Json,
    output::{
        self, ListFormat,
        partners::time,
        table::{self, Column, Text},
    },
    session::{ChangeFlags, Session},
    values,
};
use crate::proto::v1::{
    CreateRevocationRequest, DeleteRevocationRequest, ListRevocationsRequest, Revocation,
    revocation::Target,
};

/// What can be revoked.
#[derive(Subcommand, Clone, Debug)]
pub enum RevokeCommand {
    /// One token, by its jti
    Token(RevokeArgs),
    /// Every token of a subject, present and future
    Subject(RevokeArgs),
    /// Every token that a key has signed, by its kid
    Key(RevokeArgs),
}

impl RevokeCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Consent is not given, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Token(args) => args.run(session, "token", Target::TokenId).await,
            Self::Subject(args) => args.run(session, "subject", Target::Subject).await,
            Self::Key(args) => args.run(session, "key", Target::KeyId).await,
        }
    }
}

/// Stop believing something at once, however well it is signed.
#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    /// Its id, exactly as it stands in the token
    #[arg(value_name = "ID")]
    id: String,

    /// Its issuer, exactly as it stands in the token
    #[arg(long, value_name = "ISSUER")]
    issuer: String,

    /// How long, such as 24h; for ever without
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration)]
    duration: Option<std::time::Duration>,

    #[command(flatten)]
    change: ChangeFlags,
}

impl RevokeArgs {
    async fn run(
        self,
        session: &Session,
        kind: &str,
        target: impl FnOnce(String) -> Target,
    ) -> Outcome {
        let what = format!("the {kind} {} of {}", self.id, self.issuer);
        if !self.change.what_if {
            console::confirm(self.change.consent(), "Revoke 1 credential", &[&what])?;
        }
        let revocation = Revocation {
            issuer: self.issuer,
            target: Some(target(self.id)),
            reason: self.change.reason.clone().unwrap_or_default(),
            expire_time: self.duration.map(|time| (SystemTime::now() + time).into()),
            ..Revocation::default()
        };
        let request = CreateRevocationRequest {
            revocation: Some(revocation),
            force: self.change.force,
            validate_only: self.change.what_if,
            request_id: request_id(),
        };
        let made = session.client_for(&self.change).await?.create_revocation(request).await?;
        if self.change.what_if {
            return Ok(output::line(format_args!("{what} would be revoked"))?);
        }
        Ok(output::line(format_args!("{what} is revoked: {}", made.name))?)
    }
}

/// What can be done with revocations.
#[derive(Subcommand, Clone, Debug)]
pub enum RevocationCommand {
    List(ListRevocationsArgs),
    Delete(DeleteRevocationArgs),
}

impl RevocationCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List(args) => args.run(session).await,
            Self::Delete(args) => args.run(session).await,
        }
    }
}

/// List what was revoked.
#[derive(Args, Clone, Debug)]
pub struct ListRevocationsArgs {
    /// Only revocations that match (AIP-160), for example 'target = KEY'
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ListFormat,
}

impl ListRevocationsArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let mut request = ListRevocationsRequest {
            page_size: 1_000,
            filter: self.filter.unwrap_or_default(),
            ..ListRevocationsRequest::default()
        };
        let mut all = Vec::new();
        loop {
            let answer = client.list_revocations(request.clone()).await?;
            all.extend(answer.revocations);
            if answer.next_page_token.is_empty() {
                break;
            }
            request.page_token = answer.next_page_token;
        }
        let json: Vec<_> = all.iter().map(Json).collect();
        let table = || {
            const COLUMNS: &[Column] = &[
                Column::fixed("REVOCATION"),
                Column::fixed("KIND"),
                Column::flexible("ID"),
                Column::flexible("ISSUER"),
                Column::fixed("UNTIL"),
                Column::flexible("REASON"),
            ];
            let rows = all.iter().map(row).collect();
            table::render(session.console, COLUMNS, rows, true, &mut Vec::new())
        };
        Ok(self.output.print(&json, |index| all[index].name.clone(), table)?)
    }
}

fn row(revocation: &Revocation) -> Vec<Text> {
    let (kind, id) = match &revocation.target {
        Some(Target::TokenId(id)) => ("token", id.as_str()),
        Some(Target::Subject(id)) => ("subject", id.as_str()),
        Some(Target::KeyId(id)) => ("key", id.as_str()),
        None => ("", ""),
    };
    let until = time(revocation.expire_time.as_ref());
    vec![
        revocation.name.trim_start_matches("revocations/").into(),
        kind.into(),
        id.into(),
        revocation.issuer.as_str().into(),
        if until.is_empty() { "for ever".into() } else { until.as_str().into() },
        revocation.reason.as_str().into(),
    ]
}

/// Take a revocation back: what it was about is believed again.
#[derive(Args, Clone, Debug)]
pub struct DeleteRevocationArgs {
    /// The revocation, as `revocation list` shows it
    #[arg(value_name = "REVOCATION")]
    revocation: String,

    #[command(flatten)]
    change: ChangeFlags,
}

impl DeleteRevocationArgs {
    async fn run(self, session: &Session) -> Outcome {
        let id = self.revocation.trim_start_matches("revocations/");
        let name = format!("revocations/{id}");
        if !self.change.what_if {
            console::confirm(self.change.consent(), "Take back 1 revocation", &[&name])?;
        }
        let request = DeleteRevocationRequest {
            name: name.clone(),
            allow_missing: false,
            validate_only: self.change.what_if,
            request_id: request_id(),
        };
        session.client_for(&self.change).await?.delete_revocation(request).await?;
        let done = if self.change.what_if { "would be taken back" } else { "taken back" };
        Ok(output::line(format_args!("{name} {done}"))?)
    }
}
