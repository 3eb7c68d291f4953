//! Who a caller is and whether he may. The only module that makes permits.

pub mod caller;
pub mod certificate;
pub mod failures;
pub mod incident;
pub mod issuer;
pub mod keys;
pub mod layer;
pub mod permit;
pub mod policy;
pub mod rights;
pub mod shares;
pub mod sightings;
pub mod token;

pub use caller::{Call, Caller};
pub use incident::Incident;
pub use permit::Permit;
pub use policy::{Denial, Policy};
pub use rights::Rights;
