//! FederationSettingsService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::begin,
    convert,
    parse::{self, Broken},
};
use crate::{
    auth::permit::{GetSettings, Purpose, UpdateSettings},
    domain::mask::{Mask, SettingsField},
    proto::v1::{self as pb, federation_settings_service_server::FederationSettingsService},
    registry::{Registry, settings::SettingsChange},
};

const NAME: &str = convert::SETTINGS_NAME;
const PATH: &str = "federation_settings";
const SECRET: &str = "dialback_passphrase";

/// The handlers of FederationSettingsService.
#[derive(Debug)]
pub struct Settings {
    registry: Arc<Registry>,
}

impl Settings {
    /// The handlers on `registry`.
    pub const fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl FederationSettingsService for Settings {
    async fn get_federation_settings(
        &self,
        request: Request<pb::GetFederationSettingsRequest>,
    ) -> Result<Response<pb::FederationSettings>, Status> {
        let begun = begin(&self.registry, request).await?;
        let permit = self.registry.policy().permit::<GetSettings>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        check_name(&begun.message.name, "name", &mut broken);
        broken.refuse()?;
        let found = self.registry.settings(&permit);
        Ok(begun.response(convert::settings(&found.result), found.revision))
    }

    async fn update_federation_settings(
        &self,
        request: Request<pb::UpdateFederationSettingsRequest>,
    ) -> Result<Response<pb::FederationSettings>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let permit = self
            .registry
            .policy()
            .permit::<UpdateSettings>(&begun.call, Purpose::of(message.validate_only))?;
        let mut broken = Broken::default();
        let change = change(message, &mut broken);
        if change.mask.names(SettingsField::DialbackPassphrase) {
            // A preview tells whether anything would change, and so whether a guess is right.
            let policy = self.registry.policy();
            policy.allow::<UpdateSettings>(&begun.call, Purpose::Commit)?;
        }
        let retry = broken.retry("UpdateFederationSettings", &message.request_id, message);
        broken.refuse()?;
        let committed = self.registry.update_settings(permit, change, retry).await?;
        Ok(begun.response(convert::settings(&committed.result), committed.revision))
    }
}

fn change(message: &pb::UpdateFederationSettingsRequest, broken: &mut Broken) -> SettingsChange {
    let absent = pb::FederationSettings::default();
    let settings = message.federation_settings.as_ref().unwrap_or_else(|| {
        broken.add(PATH, "the settings are missing; send the new values");
        &absent
    });
    check_name(&settings.name, "federation_settings.name", broken);
    let mask = parse::mask(message.update_mask.as_ref(), "update_mask", broken);
    let mut mask = mask.unwrap_or_else(|| Mask::of(parse::populated_settings(settings)));
    let mut named = message.update_mask.iter().flat_map(|mask| &mask.paths);
    if settings.dialback_passphrase.is_empty() && !named.any(|path| path == SECRET) {
        // `*` with what was read would clear it, since nobody can read it.
        mask = mask.without(SettingsField::DialbackPassphrase);
    }
    SettingsChange {
        values: parse::settings(settings, mask.fields(), PATH, broken),
        mask,
        etag: Some(settings.etag.clone()).filter(|etag| !etag.is_empty()),
        path: PATH.into(),
    }
}

fn check_name(name: &str, path: &str, broken: &mut Broken) {
    if !name.is_empty() && name != NAME {
        broken.add(path, "there is one resource of this kind; write federationSettings");
    }
}
