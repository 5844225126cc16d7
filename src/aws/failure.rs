//! Why a call has no answer: what AWS said, or what stood in the way, and what a person does about it.

use std::fmt;

use super::call::Service;
use crate::error::{Error, Exit};

/// Codes that ask to come back later; besides these, statuses 429 and 503 do.
const THROTTLED: &[&str] = &[
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
];

/// Codes of missing rights.
const DENIED: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "Forbidden",
    "UnauthorizedOperation",
];

/// Codes of credentials that are no longer good.
const EXPIRED: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "TokenRefreshRequired",
];

/// Codes of credentials that never were good, in this partition or at all.
const REFUSED: &[&str] = &[
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// Codes of a clock that is off further than AWS accepts, even after correction.
pub(super) const SKEWED: &[&str] = &["RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"];

/// What stood in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// AWS answered with an error.
    Refused,
    /// No credentials could be had.
    Credentials(Box<Error>),
    /// The connection could not be made or broke.
    Connection(String),
    /// It took too long.
    TimedOut(String),
    /// The answer is not what AWS promises.
    Unreadable(String),
    /// The request could not be made.
    Unsendable(String),
}

/// Why a call failed, with all that AWS said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The service.
    pub service: Service,
    /// The action as a policy names it.
    pub action: &'static str,
    /// What it was to act on.
    pub resource: Option<String>,
    /// AWS's code.
    pub(crate) code: Option<String>,
    /// AWS's message.
    pub message: Option<String>,
    /// AWS's request id: what its support asks for.
    pub request_id: Option<String>,
    /// The HTTP status; `None` when there was no answer.
    pub status: Option<u16>,
    /// The region that a bucket says it is in.
    pub bucket_region: Option<String>,
    pub(crate) cause: Cause,
    /// The region of the call, and where it went.
    pub(crate) region: String,
    pub(crate) endpoint: String,
    /// The profile that was named, for hints.
    pub(crate) profile: Option<String>,
}

impl Failure {
    /// AWS's code: `InvalidGroup.Duplicate`.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The caller lacks a right.
    pub fn is_denied(&self) -> bool {
        self.code_in(DENIED)
    }

    /// AWS asks to come back later, and did so until the retries were used up.
    pub fn is_throttled(&self) -> bool {
        self.code_in(THROTTLED) || self.status == Some(429)
    }

    /// What was asked for is not there.
    pub fn is_missing(&self) -> bool {
        let Some(code) = self.code() else {
            return false;
        };
        code.ends_with("NotFound") || code.ends_with("NotFoundException") || code.starts_with("NoSuch")
    }

    /// The bucket is in another region.
    pub fn is_elsewhere(&self) -> bool {
        let moved = [
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ];
        self.service == Service::S3
            && (self.code_in(&moved) || self.bucket_region.as_ref().is_some_and(|region| *region != self.region))
    }

    /// Nobody knows whether the request took effect: no answer came, or a broken one.
    pub fn is_uncertain(&self) -> bool {
        match &self.cause {
            Cause::Refused => !self.is_throttled() && self.status.is_some_and(|status| status >= 500),
            Cause::Connection(_) | Cause::TimedOut(_) | Cause::Unreadable(_) => true,
            Cause::Credentials(_) | Cause::Unsendable(_) => false,
        }
    }

    /// STS, IAM and Systems Manager give a wrong clock the code of a wrong signature; only the message tells.
    fn is_late(&self) -> bool {
        let late =
            |message: &String| message.starts_with("Signature expired") || message.starts_with("Signature not yet current");
        self.code_in(&["SignatureDoesNotMatch", "InvalidSignatureException"]) && self.message.as_ref().is_some_and(late)
    }

    fn code_in(&self, list: &[&str]) -> bool {
        self.code().is_some_and(|code| list.contains(&code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.action)?;
        match &self.cause {
            Cause::Refused => {
                f.write_str(self.code().unwrap_or("an error without a code"))?;
                if let Some(message) = &self.message {
                    write!(f, ": {message}")?;
                }
                if let Some(status) = self.status {
                    write!(f, " (HTTP {status}")?;
                    if let Some(id) = &self.request_id {
                        write!(f, ", request {id}")?;
                    }
                    f.write_str(")")?;
                }
                Ok(())
            }
            Cause::Credentials(why) => why.fmt(f),
            Cause::Unreadable(why) => {
                f.write_str(why)?;
                let status = self.status.map(|status| format!("HTTP {status}"));
                let request = self.request_id.as_ref().map(|id| format!("request {id}"));
                let both: Vec<String> = status.into_iter().chain(request).collect();
                match both.is_empty() {
                    true => Ok(()),
                    false => write!(f, " ({})", both.join(", ")),
                }
            }
            Cause::Connection(why) | Cause::TimedOut(why) | Cause::Unsendable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let profile = failure.profile.as_deref().unwrap_or("default");
        match &failure.cause {
            Cause::Credentials(error) => (**error).clone(),
            Cause::Connection(why) => unreachable(&failure, why),
            Cause::TimedOut(why) => Error::new(Exit::Unreachable, format!("{} did not answer in time", failure.endpoint))
                .because(format!("{}: {why}", failure.action))
                .hint("Try again: every command goes on where it was cut"),
            Cause::Unreadable(_) => unreadable(&failure),
            Cause::Unsendable(why) => Error::new(Exit::Bug, format!("{} could not be sent", failure.action)).because(why),
            Cause::Refused if failure.is_denied() => denied(&failure),
            Cause::Refused if failure.code_in(EXPIRED) => Error::new(Exit::Credentials, "the AWS credentials have expired")
                .because(&failure)
                .hint(format!(
                    "aws sso login --profile {profile}, or renew AWS_SESSION_TOKEN if the environment has one"
                )),
            Cause::Refused if failure.code_in(SKEWED) || failure.is_late() => {
                let what = "this machine's clock and AWS's differ too much";
                Error::new(Exit::Credentials, what)
                    .because(&failure)
                    .hint("Set the clock: `timedatectl set-ntp true`, or `sudo sntp -sS time.apple.com` on macOS")
            }
            Cause::Refused if failure.code_in(REFUSED) => {
                let what = format!(
                    "AWS does not accept the credentials of profile {profile} in {}",
                    failure.region
                );
                Error::new(Exit::Credentials, what).because(&failure).hint(
                    "Either they were deleted or belong to another partition, or the region is not enabled for the account: \
                     `aws account list-regions` shows it",
                )
            }
            Cause::Refused if failure.code() == Some("OptInRequired") => {
                let what = format!("the account cannot use {} in {}", failure.service.name(), failure.region);
                Error::new(Exit::Config, what)
                    .because(&failure)
                    .hint(format!("aws account enable-region --region-name {}", failure.region))
            }
            Cause::Refused if failure.is_elsewhere() => elsewhere(&failure),
            Cause::Refused if failure.is_throttled() => {
                Error::new(Exit::Unreachable, format!("AWS asks to slow down at {}", failure.action))
                    .because(&failure)
                    .hint("Try again in a minute: every command goes on where it was cut")
            }
            Cause::Refused if failure.status.is_some_and(|status| status >= 500) => {
                let what = format!("AWS itself failed at {}", failure.action);
                Error::new(Exit::Unreachable, what)
                    .because(&failure)
                    .hint("Try again: every command goes on where it was cut; https://health.aws.amazon.com tells of outages")
            }
            Cause::Refused => {
                let what = match &failure.resource {
                    Some(resource) => format!("{} failed for {resource}", failure.action),
                    None => format!("{} failed", failure.action),
                };
                Error::new(Exit::Bug, what).because(&failure)
            }
        }
    }
}

fn unreachable(failure: &Failure, why: &str) -> Error {
    let error = Error::new(Exit::Unreachable, format!("{} cannot be reached", failure.endpoint)).because(why);
    let lower = why.to_lowercase();
    if lower.contains("certificate") {
        return error.hint("If a proxy of yours opens TLS, name its certificate: AWS_CA_BUNDLE=/path/to/bundle.pem");
    }
    if lower.contains("dns") || lower.contains("lookup") || lower.contains("resolve") {
        return error.hint(format!(
            "Is {} a region of AWS, and is this machine online? Behind a proxy set HTTPS_PROXY",
            failure.region
        ));
    }
    error.hint("Is this machine online? Behind a proxy set HTTPS_PROXY, and NO_PROXY for what it does not serve")
}

/// What came is not what AWS promises: it was cut, or something else answered. That is the way there, and no mistake of this program.
fn unreadable(failure: &Failure) -> Error {
    let what = format!("the answer to {} from {} cannot be read", failure.action, failure.endpoint);
    Error::new(Exit::Unreachable, what).because(failure).hint(
        "Try again: every command goes on where it was cut. If it stays, something on the way answers instead of AWS: a network's login \
         page, a proxy (HTTPS_PROXY, NO_PROXY), or another endpoint (AWS_ENDPOINT_URL)",
    )
}

fn elsewhere(failure: &Failure) -> Error {
    let what = match &failure.resource {
        Some(resource) => format!("{resource} is not in {}", failure.region),
        None => format!("the bucket is not in {}", failure.region),
    };
    let error = Error::new(Exit::Config, what).because(failure);
    match &failure.bucket_region {
        Some(region) => error.hint(format!("It is in {region}")),
        None => error.hint("`aws s3api get-bucket-location --bucket NAME` says where it is"),
    }
}

/// The caller, the action and the resource as AWS names them (`User: A is not authorized to perform: B on resource: C`),
/// since a call may need other rights than its own (RunInstances: iam:PassRole).
fn denied(failure: &Failure) -> Error {
    let message = failure.message.as_deref().unwrap_or_default();
    let between = |start: &str| {
        let rest = &message[message.find(start)? + start.len()..];
        let word = rest.split_whitespace().next()?;
        Some(word.trim_end_matches(['.', ',']).to_owned())
    };
    let action = between("is not authorized to perform: ").unwrap_or_else(|| failure.action.to_owned());
    let resource = between("on resource: ").or_else(|| failure.resource.clone());
    let on = resource
        .as_ref()
        .map_or_else(String::new, |resource| format!(" on {resource}"));
    let who = between("User: ").map_or_else(String::new, |who| format!("{who} has "));
    let error = Error::new(Exit::Credentials, format!("{who}no right to {action}{on}")).because(failure);
    if message.contains("explicit deny") {
        return error.hint("A policy denies it outright; a further Allow does not help. Ask who manages the account");
    }
    let resource = resource
        .filter(|resource| resource.starts_with("arn:"))
        .unwrap_or_else(|| "*".to_owned());
    error.hint(format!(
        r#"Add to a policy of the caller: {{"Effect": "Allow", "Action": "{action}", "Resource": "{resource}"}}"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, message: &str, status: u16) -> Failure {
        Failure {
            service: Service::Ec2,
            action: "ec2:RunInstances",
            resource: Some("i-1".to_owned()),
            code: (!code.is_empty()).then(|| code.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
            request_id: Some("r-1".to_owned()),
            status: Some(status),
            bucket_region: None,
            cause: Cause::Refused,
            region: "eu-west-1".to_owned(),
            endpoint: "https://ec2.eu-west-1.amazonaws.com".to_owned(),
            profile: Some("work".to_owned()),
        }
    }

    fn check(failure: Failure, exit: Exit, what: &str, hint: &str) {
        let error = Error::from(failure);
        assert_eq!((error.exit, error.what.as_str()), (exit, what), "{error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{error}");
    }

    #[test]
    fn clocks() {
        for (code, message) in [
            ("RequestInTheFuture", "Request is in the future."),
            (
                "SignatureDoesNotMatch",
                "Signature expired: 20261122T084653Z is now earlier than 20261122T085153Z",
            ),
            (
                "InvalidSignatureException",
                "Signature not yet current: 20261122T094653Z is still later than 20261122T085153Z",
            ),
        ] {
            let what = "this machine's clock and AWS's differ too much";
            check(refused(code, message, 403), Exit::Credentials, what, "timedatectl");
        }
    }

    #[test]
    fn rights() {
        let message = "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: iam:PassRole on resource: \
                       arn:aws:iam::123456789012:role/ephemwork-shop-bastion because no identity-based policy allows the \
                       iam:PassRole action";
        check(
            refused("AccessDenied", message, 403),
            Exit::Credentials,
            "arn:aws:iam::123456789012:user/alice has no right to iam:PassRole on \
             arn:aws:iam::123456789012:role/ephemwork-shop-bastion",
            r#"{"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::123456789012:role/ephemwork-shop-bastion"}"#,
        );
        check(
            refused(
                "UnauthorizedOperation",
                "You are not authorized to perform this operation.",
                403,
            ),
            Exit::Credentials,
            "no right to ec2:RunInstances on i-1",
            r#""Action": "ec2:RunInstances", "Resource": "*""#,
        );
        check(
            refused(
                "AccessDenied",
                "denied with an explicit deny in a service control policy",
                403,
            ),
            Exit::Credentials,
            "no right to ec2:RunInstances on i-1",
            "Ask who manages",
        );
    }

    #[test]
    fn what_else_aws_refuses() {
        let differ = "this machine's clock and AWS's differ too much";
        check(
            refused("RequestTimeTooSkewed", "", 403),
            Exit::Credentials,
            differ,
            "Set the clock",
        );
        check(
            refused("ExpiredToken", "", 400),
            Exit::Credentials,
            "the AWS credentials have expired",
            "aws sso login --profile work",
        );
        check(
            refused("AuthFailure", "", 401),
            Exit::Credentials,
            "AWS does not accept the credentials of profile work in eu-west-1",
            "not enabled",
        );
        check(
            refused("Throttling", "Rate exceeded", 400),
            Exit::Unreachable,
            "AWS asks to slow down at ec2:RunInstances",
            "Try again",
        );
        check(
            refused("InsufficientInstanceCapacity", "no t4g.nano", 500),
            Exit::Unreachable,
            "AWS itself failed at ec2:RunInstances",
            "goes on where it was cut",
        );
        let mut moved = refused("PermanentRedirect", "", 301);
        moved.service = Service::S3;
        moved.bucket_region = Some("us-east-1".to_owned());
        check(moved, Exit::Config, "i-1 is not in eu-west-1", "It is in us-east-1");
        let why = Error::from(refused("InsufficientInstanceCapacity", "no t4g.nano", 500))
            .why
            .unwrap();
        let whole = "ec2:RunInstances: InsufficientInstanceCapacity: no t4g.nano (HTTP 500, request r-1)";
        assert_eq!(why, whole);
    }

    #[test]
    fn what_stands_in_the_way() {
        let with = |cause: Cause| Failure {
            cause,
            status: None,
            ..refused("", "", 0)
        };
        let cannot = "https://ec2.eu-west-1.amazonaws.com cannot be reached";
        let dns = Cause::Connection("dns error: failed to lookup address information".to_owned());
        check(with(dns), Exit::Unreachable, cannot, "Is eu-west-1 a region");
        let tls = Cause::Connection("invalid peer certificate: UnknownIssuer".to_owned());
        check(with(tls), Exit::Unreachable, cannot, "AWS_CA_BUNDLE");
        let refused = Cause::Connection("Connection refused (os error 111)".to_owned());
        check(with(refused), Exit::Unreachable, cannot, "HTTPS_PROXY");
        let html = Failure {
            status: Some(200),
            ..with(Cause::Unreadable("the answer is not XML".to_owned()))
        };
        let why = Error::from(html.clone()).why.unwrap();
        assert_eq!(why, "ec2:RunInstances: the answer is not XML (HTTP 200, request r-1)");
        let what = "the answer to ec2:RunInstances from https://ec2.eu-west-1.amazonaws.com cannot be read";
        check(html, Exit::Unreachable, what, "Try again");
        assert!(with(Cause::TimedOut(String::new())).is_uncertain());
        assert!(!with(Cause::Unsendable(String::new())).is_uncertain());
    }

    #[test]
    fn missing() {
        let check = |code: &str, status: u16, expected: bool| {
            assert_eq!(refused(code, "", status).is_missing(), expected, "{code}");
        };
        check("InvalidInstanceID.NotFound", 400, true);
        check("InvalidGroup.NotFound", 400, true);
        check("NoSuchEntity", 404, true);
        check("NoSuchKey", 404, true);
        check("NotFound", 404, true);
        check("TargetGroupNotFound", 400, true);
        check("ParameterNotFound", 400, true);
        // What answers so without a code is no service of AWS.
        check("", 404, false);
        check("InvalidGroup.Duplicate", 400, false);
        check("Throttling", 400, false);
    }
}
