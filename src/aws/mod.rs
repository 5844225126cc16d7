//! AWS: one signed-in caller in one region, and the operations of the few services that provisioning needs.
//!
//! Each service is a pure file: what a request says and how an answer is read. The client signs, sends, retries and times.
//! There is no `aws-sdk-<service>` crate of ours.

pub mod base64;
mod call;
mod client;
mod credentials;
#[cfg(test)]
mod damage;
mod date;
mod failure;
mod json;
mod partition;
mod presign;
mod query;
mod refused;
mod xml;

pub mod ec2;
pub mod elbv2;
pub mod iam;
pub mod s3;
pub mod ssm;
pub mod sts;

use std::sync::Arc;

pub use call::{Ask, Call, Page, Paged, Reply, Service, Tags, Unreadable};
pub use credentials::{NO_CREDENTIALS, NO_REGION};
pub use failure::Failure;
pub use partition::Partition;

use crate::error::Result;
use crate::host::Host;
use crate::rt::Network;

/// How many pages of one list are read at most. With 100 entries a page this is more than any account's quota allows.
const MAX_PAGES: usize = 1000;

/// What the command line, ephemwork.toml and the environment say of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The region; `None` takes `AWS_REGION`, then the profile's.
    pub region: Option<String>,
    /// The profile; `None` takes `AWS_PROFILE`, then `default`.
    pub profile: Option<String>,
}

/// A signed-in caller in one region. Cheap to clone.
#[derive(Clone)]
pub struct Aws(Arc<client::Client>);

impl Aws {
    /// Finds the region and the credentials.
    ///
    /// # Errors
    /// `Exit::Credentials` when there are no usable credentials (an expired SSO session names its `aws sso login`),
    /// `Exit::Config` when there is no region or a setting is of no use.
    pub async fn open(host: &Host, place: &Place) -> Result<Aws> {
        let found = credentials::find(host, place).await?;
        Ok(Aws(Arc::new(client::Client::new(found))))
    }

    /// The same caller in another region.
    pub fn in_region(&self, region: &str) -> Aws {
        Aws(Arc::new(self.0.in_region(region)))
    }

    /// The region of the calls.
    pub fn region(&self) -> &str {
        self.0.region()
    }

    /// The region's partition.
    pub fn partition(&self) -> Partition {
        Partition::of(self.0.region())
    }

    /// The profile that was named, for hints.
    pub fn profile(&self) -> Option<&str> {
        self.0.profile()
    }

    /// `base` (`https://HOST/PATH`) with a query that is signed for a GET within the next minute.
    ///
    /// # Errors
    /// There are no credentials any more.
    pub async fn presigned(&self, service: Service, base: &str, query: &[(&str, String)]) -> Result<String> {
        presign::presigned(&self.0, service, base, query).await
    }

    /// What stands between here and AWS: proxies, and who is trusted.
    pub fn network(&self) -> Network {
        self.0.network()
    }

    /// Carries out one operation: signed, retried, timed.
    ///
    /// # Errors
    /// What AWS answered, or why there is no answer.
    pub async fn call<C: Call>(&self, call: &C) -> Result<C::Answer, Failure> {
        self.0.call(call).await
    }

    /// All pages of a list.
    ///
    /// # Errors
    /// As [`Aws::call`]; nothing of a list that could not be read to its end is given.
    pub async fn all<C: Paged>(&self, call: &C) -> Result<Vec<C::Item>, Failure> {
        let page = self.call(call).await?;
        let (mut items, mut next) = (page.items, page.next);
        for _ in 0..MAX_PAGES {
            let Some(token) = next else { return Ok(items) };
            let page = self.call(&call.after(&token)).await?;
            items.extend(page.items);
            next = page.next;
        }
        Err(self.0.endless(call))
    }
}
