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

/// Which of a service's host names are called: `AWS_USE_FIPS_ENDPOINT` and `AWS_USE_DUALSTACK_ENDPOINT`, or the profile's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Those behind which only cryptography of FIPS 140 runs.
    pub(crate) fips: bool,
    /// Those that have IPv6 addresses too.
    pub(crate) dual_stack: bool,
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

    /// What host names with IPv6 addresses end with; S3's excepted.
    fn dual_stack_suffix(self) -> &'static str {
        match self {
            Partition::Aws | Partition::UsGov => "api.aws",
            Partition::Cn => "api.amazonwebservices.com.cn",
        }
    }

    /// Whether there are endpoints of FIPS 140.
    pub(crate) fn has_fips(self) -> bool {
        self != Partition::Cn
    }

    /// The host that EC2 calls by, in a role's trust policy.
    pub fn ec2_principal(self) -> &'static str {
        match self {
            Partition::Aws | Partition::UsGov => "ec2.amazonaws.com",
            Partition::Cn => "ec2.amazonaws.com.cn",
        }
    }

    /// Where `service` is called in `region`, and the region that its requests are signed for. IAM has one place a partition.
    /// As the endpoint rules of AWS's service models have it.
    pub(crate) fn endpoint(self, service: Service, region: &str, kind: Kind) -> (String, String) {
        let suffix = if kind.dual_stack && service != Service::S3 {
            self.dual_stack_suffix()
        } else {
            self.dns_suffix()
        };
        // GovCloud's usual names are FIPS 140's already, those of two services excepted.
        let all_fips =
            self == Partition::UsGov && !kind.dual_stack && !matches!(service, Service::S3 | Service::Ec2InstanceConnect);
        let fips = if kind.fips && !all_fips { "-fips" } else { "" };
        let (place, signed_for) = match (service, self) {
            (Service::Iam, Partition::Aws) if kind.dual_stack => (format!("iam{fips}.global"), "us-east-1"),
            (Service::Iam, Partition::Aws) => (format!("iam{fips}"), "us-east-1"),
            (Service::Iam, Partition::Cn) if kind.dual_stack => ("iam.global".to_owned(), "cn-north-1"),
            (Service::Iam, Partition::Cn) => ("iam.cn-north-1".to_owned(), "cn-north-1"),
            (Service::Iam, Partition::UsGov) => ("iam.us-gov".to_owned(), "us-gov-west-1"),
            (Service::S3, _) if kind.dual_stack => (format!("s3{fips}.dualstack.{region}"), region),
            _ => (format!("{}{fips}.{region}", service.name()), region),
        };
        (format!("https://{place}.{suffix}"), signed_for.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let check = |region: &str, service: Service, url: &str, signed_for: &str| {
            let found = Partition::of(region).endpoint(service, region, Kind::default());
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
    /// What botocore's endpoint rules give for FIPS, for dual stack, and for both.
    #[test]
    #[rustfmt::skip] // A table: one service in one region a line.
    fn other_endpoints() {
        let table: &[(Service, &str, [&str; 3])] = &[
            (Service::Ec2, "eu-west-1", ["ec2-fips.eu-west-1.amazonaws.com", "ec2.eu-west-1.api.aws", "ec2-fips.eu-west-1.api.aws"]),
            (Service::Ec2, "us-gov-west-1", ["ec2.us-gov-west-1.amazonaws.com", "ec2.us-gov-west-1.api.aws", "ec2-fips.us-gov-west-1.api.aws"]),
            (Service::Ec2InstanceConnect, "us-east-1", ["ec2-instance-connect-fips.us-east-1.amazonaws.com", "ec2-instance-connect.us-east-1.api.aws", "ec2-instance-connect-fips.us-east-1.api.aws"]),
            (Service::Ec2InstanceConnect, "us-gov-west-1", ["ec2-instance-connect-fips.us-gov-west-1.amazonaws.com", "ec2-instance-connect.us-gov-west-1.api.aws", "ec2-instance-connect-fips.us-gov-west-1.api.aws"]),
            (Service::Elbv2, "us-east-1", ["elasticloadbalancing-fips.us-east-1.amazonaws.com", "elasticloadbalancing.us-east-1.api.aws", "elasticloadbalancing-fips.us-east-1.api.aws"]),
            (Service::Elbv2, "us-gov-east-1", ["elasticloadbalancing.us-gov-east-1.amazonaws.com", "elasticloadbalancing.us-gov-east-1.api.aws", "elasticloadbalancing-fips.us-gov-east-1.api.aws"]),
            (Service::Iam, "eu-west-1", ["iam-fips.amazonaws.com", "iam.global.api.aws", "iam-fips.global.api.aws"]),
            (Service::Iam, "us-gov-east-1", ["iam.us-gov.amazonaws.com", "iam.us-gov.api.aws", "iam.us-gov.api.aws"]),
            (Service::S3, "eu-west-1", ["s3-fips.eu-west-1.amazonaws.com", "s3.dualstack.eu-west-1.amazonaws.com", "s3-fips.dualstack.eu-west-1.amazonaws.com"]),
            (Service::S3, "us-gov-west-1", ["s3-fips.us-gov-west-1.amazonaws.com", "s3.dualstack.us-gov-west-1.amazonaws.com", "s3-fips.dualstack.us-gov-west-1.amazonaws.com"]),
            (Service::Ssm, "us-gov-west-1", ["ssm.us-gov-west-1.amazonaws.com", "ssm.us-gov-west-1.api.aws", "ssm-fips.us-gov-west-1.api.aws"]),
            (Service::Sts, "us-east-1", ["sts-fips.us-east-1.amazonaws.com", "sts.us-east-1.api.aws", "sts-fips.us-east-1.api.aws"]),
        ];
        for (service, region, expected) in table {
            let partition = Partition::of(region);
            let found = [(true, false), (false, true), (true, true)]
                .map(|(fips, dual_stack)| partition.endpoint(*service, region, Kind { fips, dual_stack }).0);
            assert_eq!(found, expected.map(|host| format!("https://{host}")), "{region} {service:?}");
        }
        let dual = Kind { fips: false, dual_stack: true };
        let check = |service: Service, host: &str| {
            let expected = (format!("https://{host}"), "cn-north-1".to_owned());
            assert_eq!(Partition::Cn.endpoint(service, "cn-north-1", dual), expected);
        };
        check(Service::Ec2, "ec2.cn-north-1.api.amazonwebservices.com.cn");
        check(Service::Iam, "iam.global.api.amazonwebservices.com.cn");
        check(Service::S3, "s3.dualstack.cn-north-1.amazonaws.com.cn");
        assert!(!Partition::Cn.has_fips());
    }
}
