//! URLs that carry their signature in the query ("Signature Version 4 query string" in the IAM User Guide), for what is no call:
//! the websocket of an EC2 Instance Connect Endpoint.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;

use super::call::Service;
use super::client::Client;
use super::credentials;
use super::query::encoded;
use crate::error::{Error, Exit, Result};

/// How long a signed URL may be used: from here to the handshake behind it.
const EXPIRES: Duration = Duration::from_secs(60);

/// `https://HOST/PATH?QUERY` of these, signed for a GET.
///
/// # Errors
/// There are no credentials any more.
pub(super) async fn presigned(client: &Client, service: Service, base: &str, query: &[(&str, String)]) -> Result<String> {
    let credentials = client.credentials().provide_credentials().await;
    let credentials = credentials.map_err(|why| credentials::without(&why, client.profile()))?;
    let bug = |why: &dyn std::fmt::Display| Error::new(Exit::Bug, format!("{base} could not be signed")).because(why);
    let mut url = base.to_owned();
    for (index, (name, value)) in query.iter().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url += &format!("{}={}", encoded(name), encoded(value));
    }
    let host = base
        .strip_prefix("https://")
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_default();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(client.region())
        .name(service.name())
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .map_err(|why| bug(&why))?;
    let request = SignableRequest::new("GET", url.as_str(), [("host", host)].into_iter(), SignableBody::Bytes(&[]));
    let request = request.map_err(|why| bug(&why))?;
    let (signed, _) = sign(request, &params.into()).map_err(|why| bug(&why))?.into_parts();
    for (name, value) in signed.params() {
        url += &format!("&{}={}", encoded(name), encoded(value));
    }
    Ok(url)
}
