//! What one operation of one service is: a request that can be built, and an answer that can be read. Nothing here sends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method};

/// Tags by key, as every service means them.
pub type Tags = BTreeMap<String, String>;

/// A service that is called, with what all its operations share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Ec2,
    Ec2InstanceConnect,
    Elbv2,
    Iam,
    S3,
    Ssm,
    Sts,
}

/// How a service words requests, answers and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A form, answered in XML; errors in `<ErrorResponse>` or, at EC2, `<Response>`.
    Query,
    /// `application/x-amz-json-1.1`.
    Json,
    /// A path, answered in XML or in bytes.
    RestXml,
}

impl Service {
    /// The name by which signatures and IAM's actions know it.
    pub fn name(self) -> &'static str {
        match self {
            Service::Ec2 => "ec2",
            Service::Ec2InstanceConnect => "ec2-instance-connect",
            Service::Elbv2 => "elasticloadbalancing",
            Service::Iam => "iam",
            Service::S3 => "s3",
            Service::Ssm => "ssm",
            Service::Sts => "sts",
        }
    }

    /// The service id of AWS's models in snake case, as in `AWS_ENDPOINT_URL_<SERVICE>` and a profile's `services` section.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Service::Ec2 => "ec2",
            Service::Ec2InstanceConnect => "ec2_instance_connect",
            Service::Elbv2 => "elastic_load_balancing_v2",
            Service::Iam => "iam",
            Service::S3 => "s3",
            Service::Ssm => "ssm",
            Service::Sts => "sts",
        }
    }

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Service::Ec2 | Service::Elbv2 | Service::Iam | Service::Sts => Protocol::Query,
            Service::Ec2InstanceConnect | Service::Ssm => Protocol::Json,
            Service::S3 => Protocol::RestXml,
        }
    }
}

/// A request without a place: what the client adds is the endpoint, the signature and its own headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// The path from `/` on, percent-encoded.
    pub path: String,
    /// The query, not encoded yet.
    pub query: Vec<(String, String)>,
    /// Headers: names in lower case.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The body.
    pub body: Bytes,
}

impl Ask {
    /// Adds a header.
    pub(crate) fn header(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.headers.push((name.into(), value.into()));
    }
}

impl fmt::Debug for Ask {
    /// Without the body, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({} {}, {} bytes)", self.method, self.path, self.body.len())
    }
}

/// An answer, whole.
#[derive(Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for Reply {
    /// Without the body, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status, self.body.len())
    }
}

/// An answer that does not say what it must: not even a broken one may end the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// One operation of one service. Pure.
pub trait Call {
    /// What the answer says.
    type Answer: Send + Sync + 'static;
    /// The service.
    const SERVICE: Service;
    /// The action as a policy names it: `ec2:RunInstances`.
    const ACTION: &'static str;

    /// What this acts on, for messages about rights: an ARN, an id or a name; `None` when it is nothing in particular.
    fn resource(&self) -> Option<String> {
        None
    }

    /// The request.
    fn request(&self) -> Ask;

    /// Reads a successful answer.
    ///
    /// # Errors
    /// It is damaged, or lacks what the service promises.
    fn answer(reply: &Reply) -> Result<Self::Answer, Unreadable>;
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What stands on it.
    pub items: Vec<T>,
    /// What asks for the next one; `None` on the last.
    pub next: Option<String>,
}

/// A call that answers in pages.
pub trait Paged: Call<Answer = Page<Self::Item>> {
    /// What the list is made of.
    type Item: Send + Sync + 'static;

    /// The same call for the page behind `next`.
    fn after(&self, next: &str) -> Self;
}

/// [`Paged`] for a call that has its page in `next`.
macro_rules! paged {
    ($call:ident => $item:ty) => {
        impl $crate::aws::Paged for $call {
            type Item = $item;

            fn after(&self, next: &str) -> $call {
                $call {
                    next: Some(next.to_owned()),
                    ..self.clone()
                }
            }
        }
    };
}

pub(crate) use paged;
