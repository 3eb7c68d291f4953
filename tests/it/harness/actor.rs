//! Actors: people with a role who share the same verbs. Credentials live here alone.

use partnerd::proto::v1::{
    self as pb, allowed_partner_service_client::AllowedPartnerServiceClient,
    federation_settings_service_client::FederationSettingsServiceClient,
    maintenance_service_client::MaintenanceServiceClient,
    replica_service_client::ReplicaServiceClient, role_service_client::RoleServiceClient,
};
use prost_types::FieldMask;
use tonic::{
    Request, Status,
    metadata::{AsciiMetadataKey, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt as _;

/// Somebody who calls the server.
#[derive(Clone)]
pub struct Actor {
    channel: Channel,
    metadata: Vec<(&'static str, String)>,
}

/// Adds an actor's metadata to each of his requests.
#[derive(Clone)]
pub struct Credentials(Vec<(&'static str, String)>);

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, value) in &self.0 {
            let value = MetadataValue::try_from(value.as_str())
                .map_err(|_| Status::failed_precondition("the test sends no such metadata"))?;
            request.metadata_mut().insert(AsciiMetadataKey::from_static(key), value);
        }
        Ok(request)
    }
}

type Service = InterceptedService<Channel, Credentials>;

/// What a call comes to.
pub type Outcome<T> = Result<T, Status>;

impl Actor {
    pub fn new(channel: Channel, token: Option<String>) -> Self {
        let metadata = token.map(|token| ("authorization", format!("Bearer {token}")));
        Self { channel, metadata: metadata.into_iter().collect() }
    }

    /// The same person, sending one more piece of metadata.
    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.metadata.push((key, value.to_owned()));
        self
    }

    pub fn service(&self) -> Service {
        InterceptedService::new(self.channel.clone(), Credentials(self.metadata.clone()))
    }

    pub fn partners(&self) -> AllowedPartnerServiceClient<Service> {
        AllowedPartnerServiceClient::new(self.service())
    }

    pub fn settings(&self) -> FederationSettingsServiceClient<Service> {
        FederationSettingsServiceClient::new(self.service())
    }

    pub fn roles(&self) -> RoleServiceClient<Service> {
        RoleServiceClient::new(self.service())
    }

    pub fn maintenance(&self) -> MaintenanceServiceClient<Service> {
        MaintenanceServiceClient::new(self.service())
    }

    pub fn replicas(&self) -> ReplicaServiceClient<Service> {
        ReplicaServiceClient::new(self.service())
    }

    /// Who the server says this is.
    pub async fn describe(&self) -> Outcome<pb::DescribeCallerResponse> {
        let request = pb::DescribeCallerRequest::default();
        Ok(self.roles().describe_caller(request).await?.into_inner())
    }

    pub async fn get(&self, domain: &str) -> Outcome<pb::AllowedPartner> {
        let request = pb::GetAllowedPartnerRequest { name: name(domain), ..Default::default() };
        Ok(self.partners().get_allowed_partner(request).await?.into_inner())
    }

    pub async fn create(
        &self,
        domain: &str,
        allowed_partner: pb::AllowedPartner,
    ) -> Outcome<pb::AllowedPartner> {
        let request = pb::CreateAllowedPartnerRequest {
            allowed_partner: Some(allowed_partner),
            allowed_partner_id: domain.into(),
            ..Default::default()
        };
        Ok(self.partners().create_allowed_partner(request).await?.into_inner())
    }

    /// Creates a partner with nothing but its domain given.
    pub async fn create_plain(&self, domain: &str) -> pb::AllowedPartner {
        self.create(domain, pb::AllowedPartner::default()).await.expect("a plain partner is valid")
    }

    pub async fn update(
        &self,
        request: pb::UpdateAllowedPartnerRequest,
    ) -> Outcome<pb::AllowedPartner> {
        Ok(self.partners().update_allowed_partner(request).await?.into_inner())
    }

    pub async fn delete(&self, domain: &str) -> Outcome<pb::AllowedPartner> {
        let request = pb::DeleteAllowedPartnerRequest { name: name(domain), ..Default::default() };
        Ok(self.partners().delete_allowed_partner(request).await?.into_inner())
    }

    pub async fn undelete(&self, domain: &str) -> Outcome<pb::AllowedPartner> {
        let request =
            pb::UndeleteAllowedPartnerRequest { name: name(domain), ..Default::default() };
        Ok(self.partners().undelete_allowed_partner(request).await?.into_inner())
    }

    pub async fn list(
        &self,
        request: pb::ListAllowedPartnersRequest,
    ) -> Outcome<pb::ListAllowedPartnersResponse> {
        Ok(self.partners().list_allowed_partners(request).await?.into_inner())
    }

    /// The domains of the partners that match a filter, in one page.
    pub async fn names(&self, filter: &str) -> Vec<String> {
        let request = pb::ListAllowedPartnersRequest {
            filter: filter.into(),
            page_size: 1_000,
            ..Default::default()
        };
        let listed = self.list(request).await.expect("the filter is valid");
        domains(&listed.allowed_partners)
    }

    pub async fn resolve(&self, domain: &str) -> Outcome<pb::ResolveDomainResponse> {
        let request = pb::ResolveDomainRequest { domain: domain.into() };
        Ok(self.partners().resolve_domain(request).await?.into_inner())
    }

    /// The last revision, as any read states it.
    pub async fn revision(&self) -> i64 {
        let request = pb::ListAllowedPartnersRequest { page_size: 1, ..Default::default() };
        self.list(request).await.expect("a plain listing is valid").revision
    }
}

/// The domains of partners, in their order.
pub fn domains(partners: &[pb::AllowedPartner]) -> Vec<String> {
    partners.iter().map(|partner| partner.name.replace("allowedPartners/", "")).collect()
}

/// The resource name of the partner with this primary domain.
pub fn name(domain: &str) -> String {
    format!("allowedPartners/{domain}")
}

/// An update of the named fields of a partner.
pub fn update(
    domain: &str,
    mask: &[&str],
    partner: pb::AllowedPartner,
) -> pb::UpdateAllowedPartnerRequest {
    let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateAllowedPartnerRequest {
        allowed_partner: Some(pb::AllowedPartner { name: name(domain), ..partner }),
        update_mask: (!paths.is_empty()).then_some(FieldMask { paths }),
        ..Default::default()
    }
}

/// The stable reason of an error.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("every error carries an ErrorInfo");
    assert_eq!(info.domain, "federation.xmpp", "{status:?}");
    info.reason
}

/// A piece of an error's ErrorInfo.
pub fn metadata(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.get(key).cloned()
}

/// The fields that an error finds at fault, sorted.
pub fn fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations);
    let mut fields: Vec<_> =
        violations.unwrap_or_default().into_iter().map(|violation| violation.field).collect();
    fields.sort();
    fields
}
