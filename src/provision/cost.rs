//! What a bastion costs, from published prices.

use std::time::Duration;

use super::desired::VOLUME_GIB;

/// Hours of a month, as AWS's own calculator has it.
const MONTH: f64 = 730.0;

/// On-demand Linux prices in us-east-1, US dollars an hour, as they were known when this was written: an estimate, which is what is printed.
/// <https://aws.amazon.com/ec2/pricing/on-demand/> has today's. Other regions differ by up to a half.
const HOURLY: &[(&str, f64)] = &[
    ("t4g.nano", 0.0042),
    ("t4g.micro", 0.0084),
    ("t4g.small", 0.0168),
    ("t4g.medium", 0.0336),
    ("t4g.large", 0.0672),
    ("t3.nano", 0.0052),
    ("t3.micro", 0.0104),
    ("t3.small", 0.0208),
    ("t3.medium", 0.0416),
    ("t3a.nano", 0.0047),
    ("t3a.micro", 0.0094),
    ("t3a.small", 0.0188),
    ("c7g.medium", 0.0363),
    ("c7g.large", 0.0725),
    ("m7g.medium", 0.0408),
    ("m7g.large", 0.0816),
];

/// A GiB of gp3 for a month, US dollars in us-east-1 (EBS pricing).
const GIB: f64 = 0.08;

/// US dollars an hour of an instance with its disk; `None` for a type without a known price.
pub fn hourly(instance_type: &str) -> Option<f64> {
    let (_, price) = HOURLY.iter().find(|(name, _)| *name == instance_type)?;
    #[allow(clippy::cast_precision_loss, reason = "a disk has few GiB")]
    let disk = GIB * VOLUME_GIB as f64 / MONTH;
    Some(price + disk)
}

/// The monthly cost as a sentence.
pub fn monthly(instance_type: &str, listener: bool) -> String {
    let Some(hourly) = hourly(instance_type) else {
        return format!(
            "{instance_type} at its price (https://aws.amazon.com/ec2/pricing/on-demand/), and {:.2} USD for {VOLUME_GIB} GiB of gp3",
            disk()
        );
    };
    let rules = if listener {
        "; two more listener rules count for the load balancer's capacity units"
    } else {
        ""
    };
    format!(
        "about {:.2} USD: {instance_type} {:.2}, {VOLUME_GIB} GiB of gp3 {:.2} (prices of us-east-1; traffic between zones is 0.01 USD a GB \
         each way{rules})",
        hourly * MONTH,
        (hourly * MONTH) - disk(),
        disk()
    )
}

/// What it has cost since then, US dollars.
pub fn since(instance_type: &str, running: Duration) -> Option<f64> {
    Some(hourly(instance_type)? * running.as_secs_f64() / 3600.0)
}

fn disk() -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a disk has few GiB")]
    let gib = VOLUME_GIB as f64;
    GIB * gib
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let check = |instance_type: &str, begins: &str| {
            let told = monthly(instance_type, false);
            assert!(told.starts_with(begins), "{told}");
        };
        check("x9.unheard", "x9.unheard at its price");
        check("t4g.nano", "about 3.71 USD: t4g.nano 3.07, 8 GiB of gp3 0.64");
        check("t3.nano", "about 4.44 USD");
        assert_eq!(since("x9.unheard", Duration::from_secs(1)), None);
        let day = since("t4g.nano", Duration::from_secs(24 * 3600)).unwrap();
        assert!((0.12..0.13).contains(&day), "{day}");
    }
}
