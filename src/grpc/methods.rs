//! Every method of the API and what it asks of its callers, read from the descriptors.
//!
//! A method of ours that names no permission, or one that does not exist, is for nobody.

use std::{collections::BTreeMap, sync::LazyLock};

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::{auth::policy::Access, domain::role::Permission, proto::DESCRIPTOR_SET};

/// The descriptors of the API and of all it imports, method options included.
pub static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTOR_SET).expect("the build wrote a descriptor set")
});

static METHODS: LazyLock<BTreeMap<String, Access>> = LazyLock::new(|| {
    let methods = DESCRIPTORS.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|method| (path(&method), access(&method))).collect()
});

/// What the method with this HTTP/2 path asks for; `None` if there is no such method.
pub fn access_of(path: &str) -> Option<Access> {
    // The standard services are not in our descriptors.
    if path.starts_with("/grpc.health.v1.Health/") {
        return Some(Access::Public);
    }
    if path.starts_with("/grpc.reflection.") {
        return Some(Access::Authenticated);
    }
    METHODS.get(path).copied()
}

/// The methods that answer with a stream. Few enough to be compared one by one.
static STREAMS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let methods = DESCRIPTORS.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.filter(MethodDescriptor::is_server_streaming).map(|method| path(&method)).collect()
});

/// Whether the method with this HTTP/2 path answers with a stream, which may go on for ever.
pub fn streams(path: &str) -> bool {
    // Those of the standard services are not in our descriptors.
    path == "/grpc.health.v1.Health/Watch"
        || path.starts_with("/grpc.reflection.")
        || STREAMS.iter().any(|stream| stream == path)
}

/// Every method of ours, as an HTTP/2 path, with what it asks for, sorted.
pub fn all() -> impl Iterator<Item = (&'static str, Access)> {
    METHODS.iter().map(|(path, access)| (path.as_str(), *access))
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

fn access(method: &MethodDescriptor) -> Access {
    match option(method, "xmpp.federation.v1.permission") {
        Some(Ok(permission)) => match option(method, "xmpp.federation.v1.preview_permission") {
            None => Access::Needs { permission, preview: None },
            Some(Ok(preview)) => Access::Needs { permission, preview: Some(preview) },
            Some(Err(())) => Access::Nobody,
        },
        None | Some(Err(())) => Access::Nobody,
    }
}

/// The permission that an option of the method names: none, one, or one that does not exist.
fn option(method: &MethodDescriptor, name: &str) -> Option<Result<Permission, ()>> {
    let extension = DESCRIPTORS.get_extension_by_name(name)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let value = options.get_extension(&extension);
    Some(value.as_str().and_then(|text| text.parse().ok()).ok_or(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_names_permissions_that_exist() {
        let nobodys: Vec<_> = all().filter(|(_, access)| *access == Access::Nobody).collect();
        assert!(nobodys.is_empty(), "{nobodys:?}");
        assert!(all().count() >= 18);
    }

    #[test]
    fn a_watch_is_a_stream_and_a_get_is_none() {
        for service in ["xmpp.federation.v1.AllowedPartnerService", "grpc.health.v1.Health"] {
            let watch = if service.starts_with("grpc") { "Watch" } else { "WatchAllowedPartners" };
            assert!(streams(&format!("/{service}/{watch}")), "{service}");
        }
        assert!(!streams("/xmpp.federation.v1.AllowedPartnerService/GetAllowedPartner"));
        assert!(!streams("/grpc.health.v1.Health/Check"));
    }

    #[test]
    fn a_method_that_does_not_exist_asks_for_nothing_we_know() {
        assert_eq!(access_of("/xmpp.federation.v1.AllowedPartnerService/Nonsense"), None);
    }
}
