//! Partners by the thousand: read in blocks on several threads, and found to fit each other.

use super::{TempStore, domain, plain_partner};
use crate::{
    domain::{AllowedPartner, Terms},
    store::{Store as _, StoreError, conformance::model::Model, sled::census::BLOCK},
};

/// More than there are blocks waiting and cores together, and the last one not full.
const MANY: u64 = 20 * BLOCK as u64 + 7;

#[test]
fn partners_of_many_blocks_come_back_in_order() {
    let place = TempStore::new();
    let mut model = Model::default();
    let write = model.set((0..MANY).map(plain_partner));
    place.try_open().unwrap().write(&[write]).unwrap();
    model.assert_is_in(&place.try_open().unwrap());
}

#[test]
fn a_domain_that_belongs_to_two_partners_far_apart_is_refused() {
    let place = TempStore::new();
    let mut model = Model::default();
    let partners = (0..3 * BLOCK as u64).map(plain_partner);
    let [first, last] = [model.set(partners), {
        let additional_domains = [domain(7)].into_iter().collect();
        let terms = Terms { additional_domains, ..Terms::default() };
        model.set([AllowedPartner { terms, ..plain_partner(3 * BLOCK as u64) }])
    }];
    place.try_open().unwrap().write(&[first]).unwrap();
    place.try_open().unwrap().write(&[last]).unwrap();
    let Err(StoreError::Damaged(why)) = place.try_open() else { panic!("it was opened") };
    let complaint = format!("the domain {} belongs to two partners", domain(7));
    assert!(why.contains(&complaint), "{why}");
}
