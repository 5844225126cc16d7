//! Sends a request: endpoint, signature, retries, time limits, clock correction. Over smithy's orchestrator.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::auth::{SigV4OperationSigningConfig, SigningOptions};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_runtime::service_clock_skew::{ServiceClockSkewClassifier, ServiceClockSkewInterceptor};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver};
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::client::interceptors::SharedInterceptor;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::{SharedRuntimePlugin, StaticRuntimePlugin};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::region::SigningRegion;
use aws_types::service_config::ServiceConfigKey;
use aws_types::{SigningName, region::Region};
use bytes::Bytes;
use http::HeaderMap;

use super::call::{Ask, Call, Reply, Service};
use super::credentials::{self, Found, chain};
use super::failure::{Cause, Failure, SKEWED};
use super::partition::{Kind, Partition};
use super::query;
use super::refused::{self, Refused};
use crate::rt::{Network, SmithyClient, SmithySleep};

/// How often a call is sent at most. Backing off from 1 s, doubled each time, half of it on average, this outlasts a quarter
/// of a minute of throttling. smithy's adaptive mode (`AWS_RETRY_MODE=adaptive`) is not the default: it is made for programs
/// that call all the time, and held each later try of one that calls seldom back by 9 s.
pub(super) const ATTEMPTS: u32 = 6;

/// How long a connection may take, in which a packet may be lost and sent again.
const CONNECT: Duration = Duration::from_secs(5);

/// How long one attempt may take beside the time that its body needs. RunInstances takes up to ten seconds.
const ATTEMPT: Duration = Duration::from_secs(30);

/// The slowest upload that is waited for, in bytes a second: 1 Mbit/s less what TLS adds.
const SLOWEST: u64 = 100 * 1024;

/// How many attempts a call has time for in all, backing off included.
const ATTEMPTS_IN_TIME: u32 = 3;

/// What one `Aws` calls with.
pub(super) struct Client {
    region: String,
    partition: Partition,
    profile: Option<String>,
    client: SmithyClient,
    /// For what is signed elsewhere.
    credentials: SharedCredentialsProvider,
    config: SdkConfig,
    retry: RetryConfig,
    /// Signature, credentials with their cache, clock correction, what is tried again.
    plugin: SharedRuntimePlugin,
}

impl Client {
    pub(super) fn new(found: Found) -> Client {
        let components = RuntimeComponentsBuilder::new("aws")
            .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
            .with_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(
                StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]),
            )))
            .with_identity_cache(Some(IdentityCache::lazy().build()))
            .with_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(found.credentials.clone()))
            .with_interceptor(SharedInterceptor::new(ServiceClockSkewInterceptor::new()))
            .with_retry_classifier(TransientErrorClassifier::<Refusal>::new())
            .with_retry_classifier(HttpStatusCodeClassifier::default())
            .with_retry_classifier(AwsErrorCodeClassifier::<Refusal>::new())
            .with_retry_classifier(ServiceClockSkewClassifier::<Refusal>::new());
        let plugin = StaticRuntimePlugin::new().with_runtime_components(components);
        Client {
            partition: Partition::of(&found.region),
            region: found.region,
            profile: found.profile,
            client: found.client,
            credentials: found.credentials,
            retry: found.config.retry_config().cloned().unwrap_or_else(RetryConfig::standard),
            config: found.config,
            plugin: SharedRuntimePlugin::new(plugin),
        }
    }

    /// The same caller elsewhere.
    pub(super) fn in_region(&self, region: &str) -> Client {
        Client {
            partition: Partition::of(region),
            region: region.to_owned(),
            profile: self.profile.clone(),
            client: self.client.clone(),
            credentials: self.credentials.clone(),
            config: self.config.clone(),
            retry: self.retry.clone(),
            plugin: self.plugin.clone(),
        }
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    pub(super) fn credentials(&self) -> &SharedCredentialsProvider {
        &self.credentials
    }

    pub(super) fn network(&self) -> Network {
        self.client.network()
    }

    pub(super) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Where a service is called, and the region that requests are signed for.
    fn endpoint(&self, service: Service) -> (String, String, Configured) {
        let kind = Kind {
            fips: self.config.use_fips().unwrap_or(false),
            dual_stack: self.config.use_dual_stack().unwrap_or(false),
        };
        let (default, signed_for) = self.partition.endpoint(service, &self.region, kind);
        match self.configured(service) {
            Some(url) => (url.trim_end_matches('/').to_owned(), signed_for, Configured::Yes),
            None => (default, signed_for, Configured::No),
        }
    }

    /// `AWS_ENDPOINT_URL_<SERVICE>`, the profile's `services` section, `AWS_ENDPOINT_URL`, the profile's `endpoint_url`.
    fn configured(&self, service: Service) -> Option<String> {
        let key = ServiceConfigKey::builder()
            .service_id(service.id())
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build();
        let specific = key.ok().and_then(|key| self.config.service_config()?.load_config(key));
        specific.or_else(|| self.config.endpoint_url().map(str::to_owned))
    }

    pub(super) async fn call<C: Call>(&self, call: &C) -> Result<C::Answer, Failure> {
        let ask = call.request();
        let (endpoint, signed_for, configured) = self.endpoint(C::SERVICE);
        let place = place(C::SERVICE, &endpoint, configured, &ask);
        let operation = Operation::builder()
            .service_name(C::SERVICE.name())
            .operation_name(C::ACTION)
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.client.clone())
            .sleep_impl(SmithySleep)
            .endpoint_url(&place.endpoint)
            .standard_retry(&self.retry)
            .timeout_config(timeouts(ask.body.len()))
            .runtime_plugin(self.plugin.clone())
            .runtime_plugin(signing(C::SERVICE, &signed_for))
            .with_connection_poisoning()
            .serializer(move |ask: Ask| request(&place.path, ask))
            .deserializer(|response: &HttpResponse| read::<C>(response))
            .build();
        match operation.invoke(ask).await {
            Ok(Answered(answer)) => Ok(answer),
            Err(error) => Err(self.failure(call, endpoint, error)),
        }
    }

    /// A list that has more pages than there can be.
    pub(super) fn endless<C: Call>(&self, call: &C) -> Failure {
        let cause = Cause::Unreadable("the list has no end".to_owned());
        self.failure_of(call, self.endpoint(C::SERVICE).0, None, cause, Refused::default())
    }

    fn failure<C: Call>(&self, call: &C, endpoint: String, error: SdkError<Refusal, HttpResponse>) -> Failure {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let header = |name: &str| {
            error
                .raw_response()
                .and_then(|response| response.headers().get(name))
                .map(str::to_owned)
        };
        let known = Refused {
            request_id: header("x-amzn-requestid").or_else(|| header("x-amz-request-id")),
            ..Refused::default()
        };
        let (cause, refused) = match error {
            SdkError::ServiceError(error) => {
                let refused = error.into_err().refused;
                // Every refusal of AWS has a code, but for an outage's and a throttle's.
                let ours = refused.code.is_some() || status.is_none_or(|status| status >= 500 || status == 429);
                match ours {
                    true => (Cause::Refused, refused),
                    false => (Cause::Unreadable("an error without a code of AWS's".to_owned()), refused),
                }
            }
            SdkError::TimeoutError(_) => (
                Cause::TimedOut(format!("no answer within {} s", (ATTEMPT * ATTEMPTS_IN_TIME).as_secs())),
                Refused::default(),
            ),
            SdkError::DispatchFailure(failure) => {
                let source = failure.as_connector_error().map(|error| error as &(dyn Error + 'static));
                if let Some(cause) = source.and_then(|source| lost(source, self.profile.as_deref())) {
                    return self.failure_of(call, endpoint, status, cause, Refused::default());
                }
                let why = failure
                    .as_connector_error()
                    .map_or_else(|| "the connection failed".to_owned(), |why| chain(why));
                let cause = if failure.is_timeout() {
                    Cause::TimedOut(why)
                } else {
                    Cause::Connection(why)
                };
                (cause, Refused::default())
            }
            error @ SdkError::ResponseError(_) => match error.into_source() {
                Ok(source) => (Cause::Unreadable(chain(&*source)), known),
                Err(error) => (Cause::Unreadable(chain(&error)), known),
            },
            error => match error.into_source() {
                Ok(source) => (unsent(&*source, self.profile.as_deref()), Refused::default()),
                Err(error) => (Cause::Unsendable(chain(&error)), Refused::default()),
            },
        };
        self.failure_of(call, endpoint, status, cause, refused)
    }

    fn failure_of<C: Call>(&self, call: &C, endpoint: String, status: Option<u16>, cause: Cause, refused: Refused) -> Failure {
        Failure {
            service: C::SERVICE,
            action: C::ACTION,
            resource: call.resource(),
            code: refused.code,
            message: refused.message,
            request_id: refused.request_id,
            status,
            bucket_region: refused.bucket_region,
            cause,
            region: self.region.clone(),
            endpoint,
            profile: self.profile.clone(),
        }
    }
}

/// What stopped a request before it was sent.
fn unsent(source: &(dyn Error + 'static), profile: Option<&str>) -> Cause {
    lost(source, profile).unwrap_or_else(|| Cause::Unsendable(chain(source)))
}

/// That credentials could not be renewed, if that is at the bottom of an error.
fn lost(source: &(dyn Error + 'static), profile: Option<&str>) -> Option<Cause> {
    let mut next = Some(source);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return Some(Cause::Credentials(Box::new(credentials::without(error, profile))));
        }
        next = error.source();
    }
    None
}

/// Whether somebody set the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Configured {
    Yes,
    No,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    endpoint: String,
    path: String,
}

/// A bucket stands in the host's name, as S3 prefers it, unless the endpoint is somebody's own or the name has dots, which
/// no certificate covers.
fn place(service: Service, endpoint: &str, configured: Configured, ask: &Ask) -> Address {
    let mut path = ask.path.clone();
    for (index, (name, value)) in ask.query.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(&query::encoded(name));
        path.push('=');
        path.push_str(&query::encoded(value));
    }
    let plain = Address {
        endpoint: endpoint.to_owned(),
        path: path.clone(),
    };
    if service != Service::S3 || configured == Configured::Yes {
        return plain;
    }
    let end = path[1..].find(['/', '?']).map_or(path.len(), |end| end + 1);
    let (bucket, rest) = (&path[1..end], &path[end..]);
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let Some(host) = endpoint.strip_prefix("https://") else {
        return plain;
    };
    if bucket.is_empty() || !bucket.bytes().all(fits) {
        return plain;
    }
    let slash = if rest.starts_with('/') { "" } else { "/" };
    Address {
        endpoint: format!("https://{bucket}.{host}"),
        path: format!("{slash}{rest}"),
    }
}

fn timeouts(body: usize) -> TimeoutConfig {
    let attempt = ATTEMPT + Duration::from_secs(body as u64 / SLOWEST);
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(attempt * ATTEMPTS_IN_TIME)
        .build()
}

fn signing(service: Service, region: &str) -> StaticRuntimePlugin {
    let mut options = SigningOptions::default();
    if service == Service::S3 {
        // S3 signs the path as it is sent, and wants the body's digest beside it.
        options.double_uri_encode = false;
        options.normalize_uri_path = false;
        options.content_sha256_header = true;
    }
    let mut layer = Layer::new("signing");
    layer.store_put(AuthSchemeOptionResolverParams::new(()));
    layer.store_put(SigV4OperationSigningConfig {
        region: Some(SigningRegion::from(Region::new(region.to_owned()))),
        name: Some(SigningName::from(service.name())),
        signing_options: options,
        ..SigV4OperationSigningConfig::default()
    });
    StaticRuntimePlugin::new().with_config(layer.freeze())
}

fn request(path: &str, ask: Ask) -> Result<HttpRequest, BoxError> {
    let mut request = http::Request::builder()
        .method(ask.method)
        .uri(path)
        .header("user-agent", concat!("ephemwork/", env!("CARGO_PKG_VERSION")));
    for (name, value) in ask.headers {
        request = request.header(name.as_ref(), value);
    }
    if !ask.body.is_empty() {
        request = request.header("content-length", ask.body.len());
    }
    let request = request.body(SdkBody::from(ask.body))?;
    Ok(HttpRequest::try_from(request)?)
}

fn read<C: Call>(response: &HttpResponse) -> Result<Answered<C::Answer>, OrchestratorError<Refusal>> {
    let mut headers = HeaderMap::new();
    for (name, value) in response.headers() {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    let reply = Reply {
        status: response.status().as_u16(),
        headers,
        body: Bytes::copy_from_slice(response.body().bytes().unwrap_or_default()),
    };
    if let Some(refused) = refused::of(C::SERVICE, &reply) {
        return Err(OrchestratorError::operation(Refusal::new(refused)));
    }
    match C::answer(&reply) {
        Ok(answer) => Ok(Answered(answer)),
        Err(why) => Err(OrchestratorError::response(why.into())),
    }
}

/// An answer on its way through smithy, which wants to print it; it may hold what must not be printed.
struct Answered<T>(T);

impl<T> fmt::Debug for Answered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answered")
    }
}

/// A refusal as smithy's classifiers want to see it.
#[derive(Debug)]
struct Refusal {
    refused: Refused,
    meta: ErrorMetadata,
}

impl Refusal {
    fn new(refused: Refused) -> Refusal {
        let mut meta = ErrorMetadata::builder();
        if let Some(code) = &refused.code {
            // smithy corrects the clock for the codes of its own list, which lacks EC2's.
            let skewed = SKEWED.contains(&code.as_str());
            meta = meta.code(if skewed { "RequestTimeTooSkewed" } else { code });
        }
        Refusal {
            meta: meta.build(),
            refused,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.fmt(f)
    }
}

impl Error for Refusal {}

impl ProvideErrorMetadata for Refusal {
    fn meta(&self) -> &ErrorMetadata {
        &self.meta
    }
}
