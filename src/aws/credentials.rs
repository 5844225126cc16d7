//! Where the credentials, the region and the endpoints come from: aws-config's chain over the environment of the [`Host`].
//!
//! In this order: environment, profile (static keys, SSO, assumed roles, credential_process), web identity, container, instance.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::os_shim_internal::Env;
use aws_types::service_config::ServiceConfigKey;

use super::{Partition, Place};
use crate::error::{Error, Exit, Result};
use crate::host::{self, Host};
use crate::rt::{self, Network, SmithyClient, SmithySleep};

/// How long all sources together may take. A `credential_process` may ask a person for a code.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// How long a connection to a source may take: STS, SSO, the container's or the instance's address.
const CONNECT: Duration = Duration::from_secs(5);

/// How long one attempt at a source may take.
const ATTEMPT: Duration = Duration::from_secs(15);

/// The longest CA bundle in bytes. Mozilla's whole list has 220 KB.
const MAX_BUNDLE: u64 = 8 * 1024 * 1024;

/// The longest region name in characters; AWS's have up to 16.
const MAX_REGION: usize = 32;

/// The error's sentence when no profile is named and no source has credentials, which is not the same as having wrong ones.
pub const NO_CREDENTIALS: &str = "no AWS credentials are found";
/// What is said when no region is set.
pub const NO_REGION: &str = "no AWS region is set";

/// What the sources gave.
pub(super) struct Found {
    pub(super) config: SdkConfig,
    pub(super) credentials: SharedCredentialsProvider,
    pub(super) client: SmithyClient,
    pub(super) region: String,
    pub(super) profile: Option<String>,
}

/// Asks all sources. Credentials are had once here, so that what is wrong with them is told before anything is called.
///
/// # Errors
/// `Exit::Config` for a region or a CA bundle that is of no use, `Exit::Credentials` for credentials.
pub(super) async fn find(host: &Host, place: &Place) -> Result<Found> {
    let profile = place
        .profile
        .clone()
        .or_else(|| host.variable("AWS_PROFILE").map(str::to_owned));
    let client = client(host).await?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .env(environment(host, place.profile.is_some()))
        .http_client(client.clone())
        .sleep_impl(SmithySleep)
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(ATTEMPT)
                .build(),
        );
    if let Some(profile) = &place.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &place.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if host.variable("AWS_MAX_ATTEMPTS").is_none() && host.variable("AWS_RETRY_MODE").is_none() {
        loader = loader.retry_config(RetryConfig::standard().with_max_attempts(super::client::ATTEMPTS));
    }
    let Some(config) = rt::timeout(MAX_WAIT, loader.load()).await else {
        let what = format!("AWS's configuration could not be read within {} s", MAX_WAIT.as_secs());
        return Err(Error::new(Exit::Credentials, what));
    };
    let region = region(config.region().map(AsRef::as_ref), profile.as_deref())?;
    if config.use_fips() == Some(true) && !Partition::of(&region).has_fips() {
        let what = format!("there are no FIPS endpoints in {region}");
        return Err(Error::new(Exit::Config, what)
            .because("AWS_USE_FIPS_ENDPOINT or the profile's use_fips_endpoint asks for them")
            .hint("export AWS_USE_FIPS_ENDPOINT=false"));
    }
    let of_environment = match &place.profile {
        Some(profile) => of_environment(host, &config, profile, &region).await?,
        None => None,
    };
    let Some(credentials) = of_environment.or_else(|| config.credentials_provider()) else {
        return Err(Error::new(Exit::Bug, "aws-config gave no credentials provider"));
    };
    let first = match rt::timeout(MAX_WAIT, credentials.provide_credentials()).await {
        Some(Ok(first)) => first,
        Some(Err(why)) => return Err(without(&why, profile.as_deref())),
        None => return Err(without(&CredentialsError::provider_timed_out(MAX_WAIT), profile.as_deref())),
    };
    let credentials = SharedCredentialsProvider::new(Known {
        first: Mutex::new(Some(first)),
        then: credentials,
    });
    Ok(Found {
        config,
        credentials,
        client,
        region,
        profile,
    })
}

/// Gives what was found when the caller signed in to whoever asks first, so that nothing is asked for twice.
#[derive(Debug)]
struct Known {
    first: Mutex<Option<Credentials>>,
    then: SharedCredentialsProvider,
}

impl ProvideCredentials for Known {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(first) => future::ProvideCredentials::ready(Ok(first)),
            None => self.then.provide_credentials(),
        }
    }
}

/// What the environment says of who the caller is; a profile that is named on the command line counts more, as with AWS's own tools.
const IDENTITY: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
];

/// The role of a profile that is named on the command line and says `credential_source = Environment`: then the keys of the environment,
/// which otherwise count less than a named profile and are hidden from aws-config, are what the role is assumed with, as aws-cli does it.
async fn of_environment(
    host: &Host,
    config: &SdkConfig,
    profile: &str,
    region: &str,
) -> Result<Option<SharedCredentialsProvider>> {
    let key = |name: &str| {
        // No variable has this name, so the profile alone is asked.
        let key = ServiceConfigKey::builder()
            .service_id("sts")
            .env(" ")
            .profile(name)
            .build()
            .ok()?;
        config.service_config()?.load_config(key)
    };
    if key("credential_source").is_none_or(|source| !source.eq_ignore_ascii_case("Environment")) {
        return Ok(None);
    }
    let Some(role) = key("role_arn") else {
        let what = format!("AWS profile {profile} has a credential_source and no role_arn");
        return Err(Error::new(Exit::Credentials, what).hint("Add the role that is to be assumed, in ~/.aws/config"));
    };
    let variable = |name: &str| host.variable(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) else {
        let what = format!("AWS profile {profile} takes its keys from the environment, which has none");
        return Err(Error::new(Exit::Credentials, what)
            .because("it says credential_source = Environment")
            .hint("export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN if they came with one"));
    };
    let keys = Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "Environment");
    let mut assumed = AssumeRoleProvider::builder(role)
        .configure(config)
        .region(Region::new(region.to_owned()))
        .session_name(key("role_session_name").unwrap_or_else(|| format!("ephemwork-{}", std::process::id())));
    if let Some(id) = key("external_id") {
        assumed = assumed.external_id(id);
    }
    if let Some(seconds) = key("duration_seconds").and_then(|text| text.parse().ok()) {
        assumed = assumed.session_length(Duration::from_secs(seconds));
    }
    Ok(Some(SharedCredentialsProvider::new(assumed.build_from_provider(keys).await)))
}

/// The variables that are text; no setting of AWS's is anything else.
fn environment(host: &Host, profile_named: bool) -> Env {
    let text = |(name, value): (&'_ std::ffi::OsString, &'_ std::ffi::OsString)| {
        Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
    };
    let mut variables: Vec<(String, String)> = host.environment.iter().filter_map(text).collect();
    variables.retain(|(name, _)| !profile_named || !IDENTITY.contains(&name.as_str()));
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Env::from_slice(&variables)
}

/// Where credentials of a container or an instance come from, which no proxy reaches.
const LINK_LOCAL: &str = "169.254.169.254,169.254.170.2,169.254.170.23";

/// `AWS_CA_BUNDLE`, and the proxy's variables in upper case or, else, in lower case.
async fn client(host: &Host) -> Result<SmithyClient> {
    let either = |name: &str| {
        host.variable(name)
            .or_else(|| host.variable(&name.to_lowercase()))
            .map(str::to_owned)
    };
    let mut network = Network {
        bundle: None,
        http_proxy: either("HTTP_PROXY").or_else(|| either("ALL_PROXY")),
        https_proxy: either("HTTPS_PROXY").or_else(|| either("ALL_PROXY")),
        no_proxy: either("NO_PROXY").map_or_else(|| LINK_LOCAL.to_owned(), |no| format!("{no},{LINK_LOCAL}")),
    };
    if let Err(why) = SmithyClient::new(network.clone()) {
        let what = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used";
        let error = Error::new(Exit::Config, what).because(why);
        return Err(error.hint("It is written as http://proxy.example:3128"));
    }
    if let Some(path) = host.variable("AWS_CA_BUNDLE") {
        let path = host.directory.join(path);
        network.bundle = Some(bundle(path).await?);
    }
    SmithyClient::new(network).map_err(|why| {
        Error::new(Exit::Config, "AWS_CA_BUNDLE names a file without usable certificates")
            .because(why)
            .hint("It must be certificates in PEM; without the variable the system's own are used")
    })
}

async fn bundle(path: PathBuf) -> Result<Vec<u8>> {
    let shown = path.display().to_string();
    let read = rt::unblock(move || host::read_text(&path, MAX_BUNDLE)).await;
    read.map(String::into_bytes).map_err(|why| {
        Error::new(Exit::Config, format!("AWS_CA_BUNDLE names {shown}, which cannot be read"))
            .because(why)
            .hint("It must be a file of certificates in PEM; without the variable the system's own are used")
    })
}

fn region(found: Option<&str>, profile: Option<&str>) -> Result<String> {
    let Some(region) = found else {
        let profile = profile.unwrap_or("default");
        return Err(Error::new(Exit::Config, NO_REGION).hint(format!(
            "Set one: `aws configure set region eu-west-1 --profile {profile}`, AWS_REGION, --region, or tunnel.region in ephemwork.toml"
        )));
    };
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if region.is_empty() || region.len() > MAX_REGION || !region.bytes().all(fits) {
        return Err(Error::new(Exit::Config, format!("{region:?} is not an AWS region"))
            .hint("A region is called like eu-west-1; `aws ec2 describe-regions` lists those of your account"));
    }
    Ok(region.to_owned())
}

/// The sentence for credentials that cannot be had.
pub(super) fn without(why: &(dyn StdError + 'static), profile: Option<&str>) -> Error {
    let chain = chain(why);
    let shown = profile.unwrap_or("default");
    let lower = chain.to_lowercase();
    // GetRoleCredentials says UnauthorizedException of a session that was ended elsewhere.
    let refused = chain.contains("UnauthorizedException");
    if refused || chain.contains("SSO") || chain.contains("/sso/cache") {
        let what = if refused || lower.contains("expired") {
            format!("the SSO session of AWS profile {shown} has expired")
        } else {
            format!("there is no SSO session for AWS profile {shown}")
        };
        let error = Error::new(Exit::Credentials, what).because(chain);
        return error.hint(format!("aws sso login --profile {shown}"));
    }
    // The instance's own are asked for last: where it has none, or is none, nobody has.
    let nothing = lower.contains("imds")
        || why
            .downcast_ref::<CredentialsError>()
            .is_some_and(|why| matches!(why, CredentialsError::CredentialsNotLoaded(_)));
    if nothing {
        let what = match profile {
            Some(profile) => format!("no AWS credentials are found for profile {profile}"),
            None => NO_CREDENTIALS.to_owned(),
        };
        return Error::new(Exit::Credentials, what).hint(
            "Name a profile (--profile, AWS_PROFILE) of ~/.aws/config, sign in (`aws configure sso`), \
             or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        );
    }
    let what = match profile {
        Some(profile) => format!("AWS profile {profile} gives no credentials"),
        None => "AWS credentials cannot be had".to_owned(),
    };
    Error::new(Exit::Credentials, what).because(chain).hint(format!(
        "`aws sts get-caller-identity{}` asks the same sources",
        profile.map_or_else(String::new, |profile| format!(" --profile {profile}"))
    ))
}

/// An error and what caused it, each said once.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions() {
        let check = |found: Option<&str>, right: bool| assert_eq!(region(found, None).is_ok(), right, "{found:?}");
        check(None, false);
        check(Some(""), false);
        check(Some("evil.example/"), false);
        check(Some("EU-WEST-1"), false);
        check(Some(&"a".repeat(33)), false);
        check(Some("eu-west-1"), true);
        check(Some("us-gov-west-1"), true);
    }

    #[test]
    fn sentences() {
        let check = |why: CredentialsError, profile: Option<&str>, what: &str, hint: &str| {
            let error = without(&why, profile);
            assert_eq!((error.exit, error.what.as_str()), (Exit::Credentials, what), "{error}");
            assert!(error.hint.clone().unwrap().contains(hint), "{error}");
        };
        check(
            CredentialsError::provider_error("the SSO token has expired"),
            Some("work"),
            "the SSO session of AWS profile work has expired",
            "aws sso login --profile work",
        );
        check(
            CredentialsError::provider_error("failed to read `/x/.aws/sso/cache/1.json`"),
            None,
            "there is no SSO session for AWS profile default",
            "aws sso login --profile default",
        );
        check(
            CredentialsError::provider_error("service error: UnauthorizedException: Session token not found or invalid"),
            Some("work"),
            "the SSO session of AWS profile work has expired",
            "aws sso login --profile work",
        );
        check(
            CredentialsError::provider_error("the associated role is missing"),
            Some("work"),
            "AWS profile work gives no credentials",
            "--profile work",
        );
        check(
            CredentialsError::provider_error("failed to load IMDS session token"),
            None,
            NO_CREDENTIALS,
            "AWS_PROFILE",
        );
        check(
            CredentialsError::not_loaded("x"),
            None,
            "no AWS credentials are found",
            "AWS_PROFILE",
        );
        check(
            CredentialsError::invalid_configuration("loop"),
            Some("a"),
            "AWS profile a gives no credentials",
            "get-caller-identity --profile a",
        );
    }
}
