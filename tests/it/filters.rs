//! Filters know every field of the resources that they are about.

use partnerd::{
    domain::{AllowedPartner, filter::Filterable, role::Role},
    grpc::methods::DESCRIPTORS,
};

/// The fields of a message, by number.
fn fields_of(message: &str) -> Vec<String> {
    let message = DESCRIPTORS.get_message_by_name(message).expect("the message is in proto/");
    message.fields().map(|field| field.name().to_owned()).collect()
}

fn filterable<T: Filterable>() -> Vec<&'static str> {
    let paths = T::FIELDS.iter().map(|field| field.path);
    paths.filter(|path| !path.contains('.')).collect()
}

#[test]
fn every_field_of_a_partner_can_be_filtered_by() {
    assert_eq!(filterable::<AllowedPartner>(), fields_of("xmpp.federation.v1.AllowedPartner"));
}

#[test]
fn every_field_of_a_role_can_be_filtered_by() {
    assert_eq!(filterable::<Role>(), fields_of("xmpp.federation.v1.Role"));
}
