//! What names a thing in AWS: ids, a listener's ARN, an object's S3 URI. The file's keys and the flags of `bastion` are read here.

use std::fmt;

/// Why a text is none of these, and one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAws {
    /// The reason, without the key's name.
    pub why: String,
    /// What would be right.
    pub example: &'static str,
}

impl fmt::Display for BadAws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; write it as in {}", self.why, self.example)
    }
}

/// What an id is the id of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ami-…`
    Image,
    /// `subnet-…`
    Subnet,
    /// `vpc-…`
    Vpc,
    /// `sg-…`
    SecurityGroup,
    /// Twelve digits.
    Account,
}

impl Kind {
    /// The id itself.
    ///
    /// # Errors
    /// It has another shape ("Resource IDs" in the EC2 User Guide: a prefix, then 8 or 17 hexadecimal digits).
    pub fn parse(self, text: &str) -> Result<String, BadAws> {
        let (prefix, example) = match self {
            Kind::Image => ("ami-", "ami-0123456789abcdef0"),
            Kind::Subnet => ("subnet-", "subnet-0123456789abcdef0"),
            Kind::Vpc => ("vpc-", "vpc-0123456789abcdef0"),
            Kind::SecurityGroup => ("sg-", "sg-0123456789abcdef0"),
            Kind::Account => {
                if is_account(text) {
                    return Ok(text.to_owned());
                }
                let why = format!("an account's id has 12 digits, found {text:?}");
                return Err(BadAws {
                    why,
                    example: "123456789012",
                });
            }
        };
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match text.strip_prefix(prefix) {
            Some(rest) if (8..=17).contains(&rest.len()) && hex(rest) => Ok(text.to_owned()),
            Some(_) => Err(BadAws {
                why: format!("behind {prefix:?} come 8 to 17 digits and letters from a to f, found {text:?}"),
                example,
            }),
            None => Err(BadAws {
                why: format!("it begins with {prefix:?}, found {text:?}"),
                example,
            }),
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `s3://BUCKET/KEY`. Both have only characters that mean nothing to a shell or in JSON, because both are written into
/// user data and a policy document; neither holds `*` or `?`, which would make one object's permission that of many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct S3Uri {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key, without a `/` in front.
    pub key: String,
}

impl S3Uri {
    /// # Errors
    /// It is no such URI, or has a character that is not taken.
    pub fn parse(text: &str) -> Result<S3Uri, BadAws> {
        let wrong = |why: String| BadAws {
            why,
            example: "s3://my-bucket/ephemwork/0.1.0/ephemwork-aarch64-unknown-linux-musl",
        };
        let rest = text
            .strip_prefix("s3://")
            .ok_or_else(|| wrong(format!("it begins with \"s3://\", found {text:?}")))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        // "General purpose bucket naming rules" in the S3 User Guide.
        let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let named = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
            && end(bucket.as_bytes().first())
            && end(bucket.as_bytes().last());
        if !named {
            return Err(wrong(format!("{bucket:?} is not a bucket's name")));
        }
        if key.is_empty() || key.ends_with('/') {
            return Err(wrong(format!("it names no object, found {text:?}")));
        }
        if key.len() > 1024 {
            return Err(wrong("the key is longer than 1024 bytes".to_owned()));
        }
        let taken = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '=' | '@' | ':');
        if let Some(c) = key.chars().find(|c| !taken(c)) {
            return Err(wrong(format!(
                "{c:?} is not taken in the object's key; letters, digits and /._-+=@: are"
            )));
        }
        Ok(S3Uri {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl fmt::Display for S3Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// The ARN of an Application Load Balancer's listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerArn {
    /// The whole of it.
    pub arn: String,
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// Shaped like `eu-west-1`.
    pub region: String,
    /// Twelve digits.
    pub account: String,
    /// The load balancer's name.
    pub balancer: String,
    /// The load balancer's own number.
    balancer_id: String,
}

impl ListenerArn {
    /// # Errors
    /// It is no such ARN; one of a network load balancer is none, because that has no rules.
    pub fn parse(text: &str) -> Result<ListenerArn, BadAws> {
        let wrong = |why: String| BadAws {
            why,
            example: "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/my-alb/0123456789abcdef/fedcba9876543210",
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [arn, partition, service, region, account, resource] = parts.as_slice() else {
            return Err(wrong(format!("it is not an ARN, found {text:?}")));
        };
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let outside = *arn == "arn"
            && partition.starts_with("aws")
            && plain(partition)
            && *service == "elasticloadbalancing"
            && super::is_region(region)
            && is_account(account);
        match resource.split('/').collect::<Vec<_>>().as_slice() {
            ["listener", "app", balancer, balancer_id, listener]
                if outside && plain(balancer) && plain(balancer_id) && plain(listener) =>
            {
                Ok(ListenerArn {
                    arn: text.to_owned(),
                    partition: (*partition).to_owned(),
                    region: (*region).to_owned(),
                    account: (*account).to_owned(),
                    balancer: (*balancer).to_owned(),
                    balancer_id: (*balancer_id).to_owned(),
                })
            }
            ["listener", "net" | "gwy", ..] => Err(wrong("only an application load balancer has rules".to_owned())),
            ["loadbalancer", ..] => Err(wrong("it is the load balancer's own ARN, not its listener's".to_owned())),
            ["listener-rule", ..] => Err(wrong("it is a rule's ARN, not its listener's".to_owned())),
            _ => Err(wrong(format!("it is not a listener's ARN, found {text:?}"))),
        }
    }

    /// The ARN of the load balancer that it belongs to.
    pub fn balancer_arn(&self) -> String {
        let ListenerArn {
            partition,
            region,
            account,
            balancer,
            balancer_id,
            ..
        } = self;
        format!("arn:{partition}:elasticloadbalancing:{region}:{account}:loadbalancer/app/{balancer}/{balancer_id}")
    }
}

impl fmt::Display for ListenerArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let check = |kind: Kind, text: &str, fits: bool| assert_eq!(kind.parse(text).is_ok(), fits, "{text:?}");
        check(Kind::Vpc, "", false);
        check(Kind::Vpc, "vpc-", false);
        check(Kind::Vpc, "vpc-0123456", false);
        check(Kind::Vpc, "vpc-0123456789abcdefg", false);
        check(Kind::Vpc, "VPC-01234567", false);
        check(Kind::Vpc, "subnet-01234567", false);
        check(Kind::Vpc, "vpc-0123456789abcdef01", false);
        check(Kind::Account, "12345678901", false);
        check(Kind::Account, "1234-5678-9012", false);
        check(Kind::Vpc, "vpc-01234567", true);
        check(Kind::Image, "ami-0123456789abcdef0", true);
        check(Kind::Subnet, "subnet-0123456789abcdef0", true);
        check(Kind::SecurityGroup, "sg-0123456789abcdef0", true);
        check(Kind::Account, "123456789012", true);
    }

    #[test]
    fn uris() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let found = S3Uri::parse(text).ok();
            let expected = expected.map(|(bucket, key)| S3Uri {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            });
            assert_eq!(found, expected, "{text:?}");
        };
        check("", None);
        check("https://bucket/key", None);
        check("s3://bucket", None);
        check("s3://bucket/", None);
        check("s3://bucket/dir/", None);
        check("s3://Bucket/key", None);
        check("s3://-bucket/key", None);
        check("s3://bucket/a b", None);
        check("s3://bucket/a*", None);
        check("s3://bucket/$(id)", None);
        check("s3://bucket/a\nb", None);
        check("s3://bucket/\"", None);
        check(&format!("s3://bucket/{}", "x".repeat(1025)), None);
        check("s3://bucket/key", Some(("bucket", "key")));
        check("s3://my.bucket/a/b-1.0_x+y", Some(("my.bucket", "a/b-1.0_x+y")));
    }

    #[test]
    fn listeners() {
        let check = |text: &str, why: &str| {
            let told = ListenerArn::parse(text).map(|arn| arn.balancer).unwrap_or_else(|bad| bad.why);
            assert!(told.contains(why), "{text:?}: {told}");
        };
        let arn = |resource: &str| format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:{resource}");
        check("", "not an ARN");
        check(
            "arn:aws:ec2:eu-west-1:123456789012:listener/app/a/b/c",
            "not a listener's ARN",
        );
        check(&arn("loadbalancer/app/shop/50dc6c495c0c9188"), "load balancer's own ARN");
        check(&arn("listener-rule/app/shop/1/2/3"), "a rule's ARN");
        check(&arn("listener/net/shop/1/2"), "only an application load balancer");
        check(&arn("listener/app/shop/1"), "not a listener's ARN");
        check(&arn("listener/app/sh op/1/2"), "not a listener's ARN");
        check("arn:aws:elasticloadbalancing:eu:1:listener/app/a/b/c", "not a listener's ARN");
        let right = ListenerArn::parse(&arn("listener/app/shop/1/2")).unwrap();
        assert_eq!(right.balancer_arn(), arn("loadbalancer/app/shop/1"));
        check(
            "arn:aws-cn:elasticloadbalancing:cn-north-1:123456789012:listener/app/shop/1/2",
            "shop",
        );
    }
}
