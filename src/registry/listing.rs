//! Listings: pages of one snapshot, by name or by another order.

use std::sync::Arc;

use super::{
    Error, Registry, Snapshot,
    pages::{PageToken, query_digest},
};
use crate::{
    auth::{Permit, permit::ListPartners},
    domain::{
        AllowedPartner, DomainName, Revision,
        filter::{Filter, OrderBy},
    },
};

/// What a listing is asked for.
#[derive(Debug)]
pub struct ListQuery {
    /// Which partners.
    pub filter: Filter<AllowedPartner>,
    /// In which order.
    pub order: OrderBy<AllowedPartner>,
    /// Whether those deleted too.
    pub show_deleted: bool,
    /// The most partners of a page; at least 1.
    pub page_size: usize,
    /// The token of the page, empty for the first.
    pub page_token: String,
}

/// A page of a listing.
#[derive(Debug)]
pub struct Page {
    /// The partners.
    pub partners: Vec<Arc<AllowedPartner>>,
    /// The token of the next page; `None` on the last one.
    pub next: Option<String>,
    /// About how many bytes its partners take on the wire.
    pub weight: usize,
    /// How many partners there are in all pages.
    pub total: u32,
    /// The revision that all pages come from.
    pub revision: Revision,
}

impl Registry {
    /// A page of the partners that the permit reaches. Looks at every partner when there is a
    /// filter or an order, so not for async threads when there are many.
    ///
    /// # Errors
    /// [`super::Kind::Invalid`] for a bad page token; [`super::Kind::PageTokenExpired`].
    pub fn list(&self, permit: &Permit<ListPartners>, query: &ListQuery) -> Result<Page, Error> {
        let digest = query_digest(&[
            query.filter.as_str(),
            query.order.as_str(),
            if query.show_deleted { "deleted" } else { "" },
            &format!("{:?}", permit.reach()),
        ]);
        let token = match query.page_token.as_str() {
            "" => None,
            text => Some(PageToken::decode(text, digest)?),
        };
        let snapshot = match &token {
            Some(token) => self.pages.find(token.revision, self.snapshot())?,
            None => self.snapshot(),
        };
        let listing = Listing { snapshot: &snapshot, permit, query };
        let last = token.as_ref().and_then(|token| DomainName::parse(&token.after).ok());
        let counted = token.as_ref().map(|token| token.total);
        let (mut partners, total) = listing.page(last.as_ref(), counted);
        let (fitting, weight) = fitting(&partners, query.page_size);
        let more = partners.len() > fitting;
        partners.truncate(fitting);
        let next = partners.last().filter(|_| more).map(|last| {
            let after = last.domain.to_string();
            PageToken { revision: snapshot.revision(), total, query: digest, after }.encode()
        });
        let revision = snapshot.revision();
        if next.is_some() {
            self.pages.keep(snapshot);
        }
        Ok(Page { partners, next, weight, total, revision })
    }
}

/// A page ends before it gets heavier than this, whatever its size in partners: gRPC clients take
/// responses of 4 MiB unless they are told otherwise.
pub(super) const MAX_PAGE_BYTES: usize = 3 << 20;

/// How many of `partners` fit on a page, at least one, and what they weigh.
fn fitting(partners: &[Arc<AllowedPartner>], page_size: usize) -> (usize, usize) {
    let (mut count, mut weight) = (0, 0);
    for partner in &partners[..partners.len().min(page_size)] {
        let heavier = weight + partner.weight();
        if count > 0 && heavier > MAX_PAGE_BYTES {
            break;
        }
        (count, weight) = (count + 1, heavier);
    }
    (count, weight)
}

/// A listing on one snapshot.
struct Listing<'a> {
    snapshot: &'a Snapshot,
    permit: &'a Permit<ListPartners>,
    query: &'a ListQuery,
}

impl<'a> Listing<'a> {
    /// The partners after `last`, one more than fit on the page if there are as many, and how
    /// many there are on all pages: `counted`, or else counted in passing, since a filter may have
    /// to look at a million.
    fn page(
        &self,
        last: Option<&DomainName>,
        counted: Option<u32>,
    ) -> (Vec<Arc<AllowedPartner>>, u32) {
        let counted = counted.or_else(|| self.total_at_once());
        let wanted = self.query.page_size + 1;
        if self.query.order.is_by_name() {
            let mut rest = self.matching(last);
            let page: Vec<_> = rest.by_ref().take(wanted).cloned().collect();
            let total = counted.unwrap_or_else(|| saturated(page.len() + rest.count()));
            return (page, total);
        }
        let all: Vec<_> = self.matching(None).collect();
        let total = counted.unwrap_or_else(|| saturated(all.len()));
        (self.first_in_order(all, last, wanted), total)
    }

    /// How many partners there are, when that takes no counting.
    fn total_at_once(&self) -> Option<u32> {
        let everything = self.query.filter.is_empty() && self.permit.reach().is_everything();
        let deleted = if self.query.show_deleted { self.snapshot.deleted_count() } else { 0 };
        everything.then(|| saturated(self.snapshot.partner_count() + deleted))
    }

    /// The first `wanted` of `all` after `last` in the order asked for.
    fn first_in_order(
        &self,
        mut all: Vec<&Arc<AllowedPartner>>,
        last: Option<&DomainName>,
        wanted: usize,
    ) -> Vec<Arc<AllowedPartner>> {
        let compare =
            |a: &&Arc<AllowedPartner>, b: &&Arc<AllowedPartner>| self.query.order.compare(a, b);
        let last = last.and_then(|domain| {
            self.snapshot.partner(domain).or_else(|| self.snapshot.deleted(domain))
        });
        if let Some(last) = last {
            all.retain(|partner| compare(partner, &last).is_gt());
        }
        if all.len() > wanted {
            all.select_nth_unstable_by(wanted, compare);
            all.truncate(wanted);
        }
        all.sort_unstable_by(compare);
        all.into_iter().cloned().collect()
    }

    fn matching(
        &self,
        after: Option<&DomainName>,
    ) -> impl Iterator<Item = &'a Arc<AllowedPartner>> + use<'a> {
        let (permit, query) = (self.permit, self.query);
        self.snapshot
            .partners_after(after, query.show_deleted)
            .filter(move |partner| permit.covers(partner) && query.filter.matches(partner))
    }
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
