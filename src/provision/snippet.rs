//! What goes behind the load balancer, for a team that keeps it in its own stack. Pure.

use super::desired::{Facts, values};
use super::documents::fill;

/// In which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    CdkPython,
    CdkTypescript,
    Terraform,
    CloudFormation,
}

impl Language {
    /// All, by the name that the command line has.
    pub const ALL: [(&'static str, Language); 4] = [
        ("cdk-python", Language::CdkPython),
        ("cdk-typescript", Language::CdkTypescript),
        ("terraform", Language::Terraform),
        ("cloudformation", Language::CloudFormation),
    ];
}

/// What the snippet needs beside the facts: the instance's address and group, when there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bastion {
    pub address: Option<String>,
    pub group: Option<String>,
    /// Two priorities that are free, or what stands for them.
    pub priorities: (u32, u32),
}

/// The text to paste.
pub fn snippet(language: Language, facts: &Facts, bastion: &Bastion) -> String {
    let template = match language {
        Language::CdkPython => include_str!("../../assets/aws/snippets/cdk.py"),
        Language::CdkTypescript => include_str!("../../assets/aws/snippets/cdk.ts"),
        Language::Terraform => include_str!("../../assets/aws/snippets/terraform.tf"),
        Language::CloudFormation => include_str!("../../assets/aws/snippets/cloudformation.yaml"),
    };
    let mut values = values(facts);
    let or = |found: &Option<String>, what: &str| found.clone().unwrap_or_else(|| format!("<{what}>"));
    values.insert("ADDRESS", or(&bastion.address, "private-address-of-the-bastion"));
    values.insert("GROUP", or(&bastion.group, "security-group-of-the-bastion"));
    values.insert("FIRST", bastion.priorities.0.to_string());
    values.insert("SECOND", bastion.priorities.1.to_string());
    fill(template, &values)
}

#[cfg(test)]
mod tests {
    use super::super::desired::tests::facts;
    use super::*;

    #[test]
    fn every_snippet_has_real_ids_and_the_four_traps() {
        let bastion = Bastion {
            address: Some("10.0.0.1".to_owned()),
            group: Some("sg-bastion".to_owned()),
            priorities: (3, 4),
        };
        for (name, language) in Language::ALL {
            let text = snippet(language, &facts(), &bastion);
            for part in [
                "arn:listener",
                "vpc-1",
                "10.0.0.1",
                "sg-bastion",
                "sg-alb",
                "/ephemwork-health",
                "X-Ephemwork",
                "*x-ephemwork*",
                "OPTIONS",
                "Trap 1",
                "Trap 2",
                "Trap 3",
                "Trap 4",
            ] {
                assert!(text.contains(part), "{part} is not in {name}:\n{text}");
            }
            for name in ["@VPC@", "@LISTENER@", "@GROUP@", "@FIRST@"] {
                assert!(!text.contains(name), "{name}");
            }
        }
    }
}
