//! What AWS says when it refuses: each protocol's error answer, read into one shape.

use std::fmt;

use http::HeaderMap;
use serde_json::Value;

use super::call::{Protocol, Reply, Service};
use super::xml;

/// A refusal as it came. Whatever is damaged in it is left out: that it was one is known from the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) bucket_region: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_deref().unwrap_or("an error without a code"))
    }
}

impl std::error::Error for Refused {}

/// The refusal in an answer; `None` when it is none. S3 has answers that begin as a success and say in the body that it
/// became none (CompleteMultipartUpload).
pub(crate) fn of(service: Service, reply: &Reply) -> Option<Refused> {
    if (200..300).contains(&reply.status) {
        let hidden = service == Service::S3 && reply.status == 200 && reply.body.starts_with(b"<") && is_error(&reply.body);
        return hidden.then(|| read(service, reply));
    }
    Some(read(service, reply))
}

fn is_error(body: &[u8]) -> bool {
    xml::read(body, |root| Ok(root.name() == "Error")).unwrap_or(false)
}

fn read(service: Service, reply: &Reply) -> Refused {
    let header = |name: &str| text(&reply.headers, name);
    let mut refused = match service.protocol() {
        Protocol::Json => json(reply),
        Protocol::Query | Protocol::RestXml => xml(reply),
    };
    refused.request_id = refused
        .request_id
        .or_else(|| header("x-amzn-requestid"))
        .or_else(|| header("x-amz-request-id"));
    refused.bucket_region = header("x-amz-bucket-region");
    if refused.code.is_none() && service == Service::S3 {
        // An answer to HEAD has no body.
        refused.code = match reply.status {
            301 => Some("PermanentRedirect"),
            403 => Some("Forbidden"),
            404 => Some("NotFound"),
            412 => Some("PreconditionFailed"),
            _ => None,
        }
        .map(str::to_owned);
    }
    refused
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// `<ErrorResponse><Error>` of the query protocol, `<Response><Errors><Error>` of EC2, `<Error>` of S3.
fn xml(reply: &Reply) -> Refused {
    let read = xml::read(&reply.body, |root| {
        let error = root
            .child("Error")
            .or_else(|| root.child("Errors").and_then(|errors| errors.child("Error")))
            .unwrap_or(root);
        Ok(Refused {
            code: error.text("Code"),
            message: error.text("Message"),
            request_id: root
                .text("RequestId")
                .or_else(|| root.text("RequestID"))
                .or_else(|| error.text("RequestId")),
            bucket_region: None,
        })
    });
    read.unwrap_or_default()
}

/// `{"__type": "com.amazonaws.ssm#ParameterNotFound", "message": ".."}`; the code may stand in a header too.
fn json(reply: &Reply) -> Refused {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let field = |names: &[&str]| names.iter().find_map(|name| body[name].as_str()).map(str::to_owned);
    let code = text(&reply.headers, "x-amzn-errortype").or_else(|| field(&["__type", "code"]));
    Refused {
        // `namespace#Code`, `Code:http://...`
        code: code.map(|code| {
            let code = code.rsplit('#').next().unwrap_or_default();
            code.split(':').next().unwrap_or_default().to_owned()
        }),
        message: field(&["message", "Message"]),
        request_id: None,
        bucket_region: None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Reply {
            status,
            headers: map,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn check(service: Service, reply: &Reply, code: &str, message: &str, request_id: &str) {
        let found = of(service, reply).unwrap();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        assert_eq!(found.code, some(code), "{reply:?}");
        assert_eq!(found.message, some(message), "{reply:?}");
        assert_eq!(found.request_id, some(request_id), "{reply:?}");
    }

    #[test]
    fn refusals() {
        let ec2 = r#"<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>InvalidGroup.Duplicate</Code><Message>The security group 'x' already exists for VPC 'vpc-1'</Message></Error></Errors><RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>"#;
        check(
            Service::Ec2,
            &reply(400, &[], ec2),
            "InvalidGroup.Duplicate",
            "The security group 'x' already exists for VPC 'vpc-1'",
            "ea966190-f9aa-478e-9ede-example",
        );
        let iam = r#"<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>The role with name a cannot be found.</Message></Error><RequestId>c4-d5</RequestId></ErrorResponse>"#;
        check(
            Service::Iam,
            &reply(404, &[], iam),
            "NoSuchEntity",
            "The role with name a cannot be found.",
            "c4-d5",
        );
        let s3 = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message><Key>k</Key><RequestId>4442587FB7D0A2F9</RequestId></Error>";
        check(
            Service::S3,
            &reply(404, &[], s3),
            "NoSuchKey",
            "The specified key does not exist.",
            "4442587FB7D0A2F9",
        );
        check(
            Service::S3,
            &reply(200, &[], s3),
            "NoSuchKey",
            "The specified key does not exist.",
            "4442587FB7D0A2F9",
        );
        check(
            Service::Ssm,
            &reply(
                400,
                &[("x-amzn-requestid", "r")],
                r#"{"__type":"com.amazonaws.ssm#ParameterNotFound","Message":"no"}"#,
            ),
            "ParameterNotFound",
            "no",
            "r",
        );
        check(
            Service::Ssm,
            &reply(400, &[("x-amzn-errortype", "AccessDeniedException:http://internal/")], "{}"),
            "AccessDeniedException",
            "",
            "",
        );
    }

    #[test]
    fn damaged_refusals_are_still_refusals() {
        for body in [
            "",
            "<",
            "<html>",
            "<Response><Errors>",
            "\u{0}",
            "[1]",
            "{\"__type\": 1}",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        ] {
            for service in [Service::Ec2, Service::Ssm] {
                check(service, &reply(503, &[], body), "", "", "");
            }
        }
        check(Service::S3, &reply(404, &[], ""), "NotFound", "", "");
        let moved = of(Service::S3, &reply(301, &[("x-amz-bucket-region", "eu-west-1")], "")).unwrap();
        assert_eq!(moved.bucket_region.as_deref(), Some("eu-west-1"));
    }

    #[test]
    fn successes_are_none() {
        assert_eq!(of(Service::Ec2, &reply(200, &[], "<Error/>")), None);
        assert_eq!(of(Service::S3, &reply(200, &[], "<InitiateMultipartUploadResult/>")), None);
        assert_eq!(of(Service::S3, &reply(204, &[], "")), None);
        assert_eq!(of(Service::S3, &reply(206, &[], "<Error><Code>a</Code></Error>")), None);
    }
}
