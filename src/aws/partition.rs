//! AWS's partitions: worlds of accounts and regions that never meet, each with its own host names and ARNs.

use super::call::Service;

/// Where a region belongs. Regions that begin with none of the known prefixes are in `aws`, as new ones have always been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The public one.
    Aws,
    /// China.
    Cn,
    /// US GovCloud.
    UsGov,
}

impl Partition {
    /// From a region's name.
    pub fn of(region: &str) -> Partition {
        if region.starts_with("cn-") {
            Partition::Cn
        } else if region.starts_with("us-gov-") {
            Partition::UsGov
        } else {
            Partition::Aws
        }
    }

    /// As ARNs write it: `arn:<this>:iam::...`.
    pub fn name(self) -> &'static str {
        match self {
            Partition::Aws => "aws",
            Partition::Cn => "aws-cn",
            Partition::UsGov => "aws-us-gov",
        }
    }

    /// What host names end with.
    pub fn dns_suffix(self) -> &'static str {
        match self {
            Partition::Aws | Partition::UsGov => "amazonaws.com",
            Partition::Cn => "amazonaws.com.cn",
        }
    }

    /// The host that EC2 calls by, in a role's trust policy.
    pub fn ec2_principal(self) -> &'static str {
        match self {
            Partition::Aws | Partition::UsGov => "ec2.amazonaws.com",
            Partition::Cn => "ec2.amazonaws.com.cn",
        }
    }

    /// Where `service` is called in `region`, and the region that its requests are signed for. IAM has one place a partition.
    pub(crate) fn endpoint(self, service: Service, region: &str) -> (String, String) {
        let suffix = self.dns_suffix();
        match (service, self) {
            (Service::Iam, Partition::Aws) => ("https://iam.amazonaws.com".to_owned(), "us-east-1".to_owned()),
            (Service::Iam, Partition::Cn) => ("https://iam.cn-north-1.amazonaws.com.cn".to_owned(), "cn-north-1".to_owned()),
            (Service::Iam, Partition::UsGov) => ("https://iam.us-gov.amazonaws.com".to_owned(), "us-gov-west-1".to_owned()),
            _ => (format!("https://{}.{region}.{suffix}", service.name()), region.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let check = |region: &str, service: Service, url: &str, signed_for: &str| {
            let found = Partition::of(region).endpoint(service, region);
            assert_eq!(found, (url.to_owned(), signed_for.to_owned()), "{region} {service:?}");
        };
        check("eu-west-1", Service::Ec2, "https://ec2.eu-west-1.amazonaws.com", "eu-west-1");
        check("eu-west-1", Service::Iam, "https://iam.amazonaws.com", "us-east-1");
        check(
            "eu-west-1",
            Service::Elbv2,
            "https://elasticloadbalancing.eu-west-1.amazonaws.com",
            "eu-west-1",
        );
        check(
            "cn-north-1",
            Service::Ec2,
            "https://ec2.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        );
        check(
            "cn-northwest-1",
            Service::Iam,
            "https://iam.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        );
        check(
            "us-gov-east-1",
            Service::Iam,
            "https://iam.us-gov.amazonaws.com",
            "us-gov-west-1",
        );
        check(
            "us-gov-east-1",
            Service::Ssm,
            "https://ssm.us-gov-east-1.amazonaws.com",
            "us-gov-east-1",
        );
        check(
            "mx-central-1",
            Service::S3,
            "https://s3.mx-central-1.amazonaws.com",
            "mx-central-1",
        );
    }
}
