//! The commands of partnerctl.
