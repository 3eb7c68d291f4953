//! The settings' use cases.

use std::sync::Arc;

use super::{Committed, Error, Kind, Registry, Request, draft::Draft, partners::check_etag};
use crate::{
    auth::{
        Permit,
        permit::{GetSettings, UpdateSettings},
    },
    domain::{
        mask::{Mask, SettingsField},
        settings::{FederationSettings, SettingsValues},
    },
    store::AnswerResult,
};

/// A change of the settings asked for by a caller.
#[derive(Debug)]
pub struct SettingsChange {
    /// The new values; those that the mask does not name are not looked at.
    pub values: SettingsValues,
    /// Which values are meant.
    pub mask: Mask<SettingsField>,
    /// The etag that the settings must have, if any.
    pub etag: Option<String>,
    /// The path of the settings in the request.
    pub path: String,
}

impl Registry {
    /// The settings.
    pub fn settings(&self, _permit: &Permit<GetSettings>) -> Committed<Arc<FederationSettings>> {
        let snapshot = self.snapshot();
        Committed { result: Arc::clone(snapshot.settings()), revision: snapshot.revision() }
    }

    /// Changes the settings.
    ///
    /// # Errors
    /// [`Kind::StaleEtag`]; [`Kind::Invalid`] with every rule that the merged settings break.
    pub async fn update_settings(
        &self,
        permit: Permit<UpdateSettings>,
        change: SettingsChange,
        request: Option<Request>,
    ) -> Result<Committed<Arc<FederationSettings>>, Error> {
        let (actor, purpose) = (permit.actor().clone(), permit.purpose());
        let work = Box::new(move |draft: &mut Draft<'_>| updated(draft, &change));
        let committed = self.run(actor, purpose, request, work).await?;
        match committed.result {
            AnswerResult::Settings(result) => {
                Ok(Committed { result, revision: committed.revision })
            }
            _ => Err(Error::wrong_answer("settings")),
        }
    }
}

fn updated(draft: &mut Draft<'_>, change: &SettingsChange) -> Result<AnswerResult, Error> {
    let before = Arc::clone(draft.state().settings());
    check_etag("federationSettings", change.etag.as_deref(), before.etag(), true)?;
    let values = change.mask.merge(&before.values, &change.values);
    let broken = values.violations();
    if !broken.is_empty() {
        let broken = broken.into_iter().map(|violation| violation.under(&change.path));
        return Err(Kind::Invalid(broken.collect()).into());
    }
    if values == before.values {
        return Ok(AnswerResult::Settings(before));
    }
    let after = Arc::new(FederationSettings {
        values,
        update_time: Some(draft.now()),
        updater: draft.subject(),
        revision: draft.revision(),
    });
    draft.put_settings(Arc::clone(&after));
    Ok(AnswerResult::Settings(after))
}
