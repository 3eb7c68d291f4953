//! Read masks (AIP-157): which fields of a partner a response shows.

use std::collections::BTreeSet;

use prost_types::FieldMask;

use super::{methods::DESCRIPTORS, parse::Broken};
use crate::{
    domain::mask::{MAX_PATHS, segments},
    proto::v1 as pb,
};

/// Which fields of a partner to show.
#[derive(Debug, Default)]
pub enum ReadMask {
    /// All of them.
    #[default]
    All,
    /// These, by name, and these labels.
    Some {
        /// The names of the fields.
        fields: BTreeSet<String>,
        /// The keys of the labels, when not all labels are shown.
        labels: BTreeSet<String>,
    },
}

impl ReadMask {
    /// Parses a read mask; none or `*` shows all.
    pub fn parse(mask: Option<&FieldMask>, broken: &mut Broken) -> Self {
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        if paths.is_empty() || paths.iter().any(|path| path == "*") {
            return Self::All;
        }
        let partner = DESCRIPTORS
            .get_message_by_name("xmpp.federation.v1.AllowedPartner")
            .expect("the descriptors hold the partner");
        let (mut fields, mut labels) = (BTreeSet::new(), BTreeSet::new());
        if paths.len() > MAX_PATHS {
            let text = format!("{} paths; at most {MAX_PATHS} are allowed", paths.len());
            broken.add("read_mask", text);
            return Self::All;
        }
        for path in paths {
            match segments(path).as_deref() {
                Some([field]) if partner.get_field_by_name(field).is_some() => {
                    fields.insert(field.clone());
                }
                Some([field, key]) if field == "labels" => {
                    labels.insert(key.clone());
                }
                _ => broken.add(
                    "read_mask",
                    format!("`{path}` is no field of a partner; name fields, or labels.`key`"),
                ),
            }
        }
        Self::Some { fields, labels }
    }

    /// The partner with only the fields to be shown.
    pub fn apply(&self, partner: pb::AllowedPartner) -> pb::AllowedPartner {
        let Self::Some { fields, labels: keys } = self else { return partner };
        macro_rules! shown {
            ($($field:ident),*) => {{
                // Exhaustive: a new field must be listed before this compiles.
                let pb::AllowedPartner { $($field),*, mut labels } = partner;
                if !fields.contains("labels") {
                    labels.retain(|key, _| keys.contains(key));
                }
                pb::AllowedPartner {
                    $($field: if fields.contains(stringify!($field)) { $field } else { Default::default() },)*
                    labels,
                }
            }};
        }
        shown!(
            name,
            uid,
            description,
            additional_domains,
            partner_type,
            proxy_fqdn,
            connection_limit,
            keep_alive_enabled,
            tls_negotiation,
            sasl_negotiation,
            dialback_enabled,
            negotiation_methods,
            warnings,
            suspended,
            expire_time,
            review_time,
            owner,
            create_time,
            update_time,
            creator,
            updater,
            revision,
            etag,
            delete_time,
            expired
        )
    }
}
