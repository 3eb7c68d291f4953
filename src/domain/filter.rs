//! AIP-160 filters and AIP-132 orders.
