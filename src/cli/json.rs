//! proto3 JSON, both ways, by reflection over the API's own descriptors.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde::{Serialize, Serializer, ser::Error as _};

use crate::proto::{DESCRIPTOR_SET, v1};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTOR_SET).expect("the build compiled these descriptors")
});

/// A message of the API that people see or write.
pub trait ApiMessage: Message + Default {
    /// The message's name below the API's package.
    const NAME: &'static str;

    /// The message's descriptor.
    fn descriptor() -> MessageDescriptor {
        POOL.get_message_by_name(&format!("xmpp.federation.v1.{}", Self::NAME))
            .expect("the message was generated from these descriptors")
    }

    /// The message with its fields by name.
    fn to_dynamic(&self) -> DynamicMessage {
        let mut dynamic = DynamicMessage::new(Self::descriptor());
        dynamic.transcode_from(self).expect("the descriptor is this message's own");
        dynamic
    }

    /// Reads proto3 JSON. Unknown fields are refused: they are mostly misspelt.
    ///
    /// # Errors
    /// What is wrong with the JSON, in words.
    fn from_json(value: &serde_json::Value) -> Result<Self, String> {
        DynamicMessage::deserialize(Self::descriptor(), value)
            .map_err(|error| error.to_string())?
            .transcode_to()
            .map_err(|error| error.to_string())
    }
}

macro_rules! api_messages {
    ($($message:ident),* $(,)?) => {
        $(impl ApiMessage for v1::$message {
            const NAME: &'static str = stringify!($message);
        })*
    };
}

api_messages!(
    AllowedPartner,
    AllowedPartnerRevision,
    AuditCheckpoint,
    AuditEntry,
    BackupHeader,
    BackupTrailer,
    DescribeCallerResponse,
    FederationSettings,
    PermissionInfo,
    Replica,
    RestoreResponse,
    ResolveDomainResponse,
    Revocation,
    Role,
    StatusResponse,
    VerifyAuditEntriesResponse,
    TestPermissionsResponse,
    WaitForConvergenceResponse,
    WatchEvent,
);

/// A message that serializes as proto3 JSON.
pub struct Json<'a, M>(pub &'a M);

impl<M: ApiMessage> Serialize for Json<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_dynamic().serialize(serializer)
    }
}

/// The name of an enum's value without the enum's prefix and in the spelling of the flags:
/// `NEGOTIATION_NOT_SUPPORTED` of `Negotiation` is `not-supported`.
pub fn enum_text(value: &str, prefix: &str) -> String {
    value.strip_prefix(prefix).unwrap_or(value).to_ascii_lowercase().replace('_', "-")
}

/// Serializes to the YAML of this program.
///
/// # Errors
/// The value does not serialize.
pub fn to_yaml<T: Serialize>(value: &T) -> Result<String, std::io::Error> {
    serde_saphyr::to_string(value)
        .map_err(|error| std::io::Error::other(serde_json::Error::custom(error)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_partner_survives_its_json() {
        let partner = v1::AllowedPartner {
            name: "allowedPartners/contoso.com".into(),
            keep_alive_enabled: Some(false),
            tls_negotiation: v1::Negotiation::Optional.into(),
            connection_limit: Some(7),
            revision: 12,
            expire_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Default::default()
        };
        let value = serde_json::to_value(Json(&partner)).unwrap();
        assert_eq!(
            value,
            json!({
                "name": "allowedPartners/contoso.com",
                "keepAliveEnabled": false,
                "tlsNegotiation": "NEGOTIATION_OPTIONAL",
                "connectionLimit": 7,
                "revision": "12",
                "expireTime": "1970-01-01T00:00:00Z",
            })
        );
        assert_eq!(v1::AllowedPartner::from_json(&value), Ok(partner));
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let refusal = v1::AllowedPartner::from_json(&json!({"keepAlive": true})).unwrap_err();
        assert!(refusal.contains("keepAlive"), "{refusal}");
    }
}
